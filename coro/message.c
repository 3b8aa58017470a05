/* What went wrong, in words.
 *
 * An int says what kind of error it was; naru_fail adds the sentence. The sentence belongs to the task that said it and
 * travels with its result: whoever awaits the task can ask naru_strerror and gets it, instead of the system's text. It is
 * counted, not copied, on its way up, and read only together with the code it was said for. */
#include "coro/internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

struct naru__message {
    atomic_uint refs; /* a task from naru_spawn_on may be released on any thread */
    int code;
    char text[];
};

/* For code outside tasks, and for what main said before the run ended. */
static _Thread_local struct naru__message *thread_message;
static pthread_key_t thread_exit;

void naru__message_drop(struct naru__message *message)
{
    if (message && atomic_fetch_sub(&message->refs, 1) == 1)
        free(message);
}

static void drop_at_exit(void *message)
{
    naru__message_drop(message);
}

static void make_key(void)
{
    pthread_key_create(&thread_exit, drop_at_exit);
}

void naru__message_keep(struct naru__message *message)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_key);
    if (message)
        atomic_fetch_add(&message->refs, 1);
    naru__message_drop(thread_message);
    thread_message = message;
    pthread_setspecific(thread_exit, message);
}

static struct naru__message *compose(int code, const char *format, va_list args)
{
    va_list again;
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    struct naru__message *message = length < 0 ? NULL : malloc(sizeof *message + (size_t)length + 1);
    if (message) {
        atomic_init(&message->refs, 1);
        message->code = code;
        vsnprintf(message->text, (size_t)length + 1, format, again);
    }
    va_end(again);
    return message;
}

int naru_fail(int code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    struct naru__message *message = compose(code, format, args);
    va_end(args);
    naru_task *task = naru_self();
    if (task) {
        naru__message_drop(task->message);
        task->message = message;
    } else {
        naru__message_keep(message);
        naru__message_drop(message);
    }
    return code;
}

void naru__message_pass(naru_task *from, naru_task *to)
{
    struct naru__message *message = from->message;
    if (!message || from == to)
        return;
    atomic_fetch_add(&message->refs, 1);
    naru__message_drop(to->message);
    to->message = message;
}

const char *naru__message_text(const struct naru__message *message, int code)
{
    return message && message->code == code ? message->text : NULL;
}

const char *naru_error_message(const naru_task *task)
{
    const char *text = task ? naru__message_text(task->message, naru_future_status(&task->outcome)) : NULL;
    return text ? text : "";
}

/* glibc's strerror is not for several threads; this one only reads a table. */
const char *naru__error_text(int error)
{
    int positive = error < 0 ? (int)-(unsigned)error : error; /* also INT_MIN, whose abs(3) there is not */
#if defined(__GLIBC__) && (__GLIBC__ > 2 || __GLIBC_MINOR__ >= 32)
    const char *text = strerrordesc_np(positive);
    return text ? text : "unknown error";
#else
    return strerror(positive);
#endif
}

const char *naru_strerror(int error)
{
    naru_task *task = naru_self();
    const char *text = naru__message_text(task ? task->message : thread_message, error > 0 ? -error : error);
    return text ? text : naru__error_text(error);
}
