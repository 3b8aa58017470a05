/*
 * The smallest program of a user, compiled by install.sh against the installed library, as C and as C++.
 */
#include <naru/coro.h>
#include <stdio.h>

static int greet(void *arg)
{
    printf("hello from %s\n", (const char *)arg);
    return 0;
}

int main(void)
{
    char name[] = "a task";
    return naru_run(greet, name) == 0 ? 0 : 1;
}
