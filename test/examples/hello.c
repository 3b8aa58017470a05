#include <naru/io.h>
#include <stdio.h>

static int hello(void *name) /* a task: it may wait */
{
    puts("Hello...");
    int rc = naru_sleep(NARU_MS(500)); /* others would run now */
    return rc < 0 ? rc : printf("...%s!\n", (const char *)name);
}

int main(void)
{
    return naru_run(hello, "World") < 0;
}
