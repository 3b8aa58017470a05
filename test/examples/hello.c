/* The first program: two tasks that greet at different times.
 *
 * naru_run makes a task of its first argument and returns its result when everything has ended. A task is a plain function
 * that may wait: while greet_later sleeps, others run. naru_join waits for a task and hands over its result. */
#include <naru/io.h>
#include <stdio.h>

static int greet_later(void *name)
{
    int rc = naru_sleep(NARU_MS(100));
    if (rc == 0)
        printf("hello, %s, a little later\n", (const char *)name);
    return rc;
}

static int greet(void *name)
{
    naru_task *later = naru_spawn(greet_later, name);
    printf("hello, %s\n", (const char *)name);
    return naru_join(later);
}

int main(void)
{
    return naru_run(greet, "world") < 0;
}
