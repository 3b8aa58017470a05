/* What the files of the I/O layer share: how a task does an operation. */
#ifndef NARU_IO_INTERNAL_H
#define NARU_IO_INTERNAL_H

#include <naru/io.h>

#include "coro/internal.h"

/* S: does a filled-in operation. Its result; -EPERM outside a task; -ECANCELED if nothing happened. */
ssize_t naru__io(naru_op *op);

/* The same with a deadline, after which it ends with -ETIMEDOUT if nothing happened. */
ssize_t naru__io_until(naru_op *op, int64_t deadline_ns);

#endif
