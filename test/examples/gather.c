/* Three waits one after the other, and the same three at once.
 *
 *     gather [scale]
 *
 * What waits here for 2, 1 and 3 seconds stands for a database, a disk and somebody else's server. Waiting for them in turn
 * takes the sum of the times, waiting for all together takes the longest. "gather 0.1" does it ten times faster. */
#include <naru/io.h>
#include <stdio.h>
#include <stdlib.h>

struct job {
    const char *name;
    double seconds;
};

enum { JOBS = 3 };
static struct job jobs[JOBS] = {{"task 1", 2}, {"task 2", 1}, {"task 3", 3}};

static int fetch(void *arg)
{
    const struct job *job = arg;
    printf("%s: started\n", job->name);
    int rc = naru_sleep(NARU_SEC(job->seconds));
    if (rc == 0)
        printf("%s: done\n", job->name);
    return rc;
}

static int in_turn(void)
{
    for (int i = 0; i < JOBS; i++) {
        int rc = fetch(&jobs[i]);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* All are waited for, also when one has failed: nothing is left running behind the caller's back. */
static int at_once(void)
{
    naru_task *tasks[JOBS];
    int joined = 0, rc = 0;
    for (int i = 0; i < JOBS; i++)
        tasks[i] = naru_spawn(fetch, &jobs[i]);
    while (joined < JOBS && rc >= 0)
        rc = naru_join(tasks[joined++]);
    /* An error, or an interrupt: the others need not go on. */
    naru_cancel_all(tasks + joined, (size_t)(JOBS - joined));
    naru_release_all(tasks + joined, (size_t)(JOBS - joined));
    return rc < 0 ? rc : 0;
}

/* How long it takes, in seconds; < 0: the error. */
static double measure(const char *title, int (*way)(void))
{
    printf("=== %s ===\n", title);
    int64_t begin = naru_now();
    int rc = way();
    double seconds = (double)(naru_now() - begin) / 1e9;
    if (rc < 0)
        return rc;
    printf("%s: %.2f s\n", title, seconds);
    return seconds;
}

static int compare(void *arg)
{
    (void)arg;
    double slow = measure("one after the other", in_turn);
    if (slow < 0)
        return (int)slow;
    double fast = measure("all at once", at_once);
    if (fast < 0)
        return (int)fast;
    printf("%.1f times as fast\n", slow / fast);
    return 0;
}

int main(int argc, char **argv)
{
    double scale = argc > 1 ? strtod(argv[1], NULL) : 1;
    if (!(scale > 0 && scale <= 1000)) {
        fprintf(stderr, "usage: %s [scale]\n", argv[0]);
        return 2;
    }
    for (int i = 0; i < JOBS; i++)
        jobs[i].seconds *= scale;
    int rc = naru_run(compare, NULL);
    if (rc < 0)
        fprintf(stderr, "%s: %s\n", argv[0], naru_strerror(rc));
    return rc < 0;
}
