/* What each type does. To make it yours: keep the shape, replace the functions. */
#include "responder.h"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <zlib.h>

static enum outcome checksum(const struct attempt *attempt, int out) {
    unsigned long sum = crc32_z(0, (const unsigned char *)attempt->payload, attempt->length);
    return dprintf(out, "%08lx", sum) == 8 ? DONE : FAILED;
}

static enum outcome echo(const struct attempt *attempt, int out) {
    return write(out, attempt->payload, attempt->length) == (ssize_t)attempt->length ? DONE : FAILED;
}

static enum outcome fail(const struct attempt *attempt, int out) { return echo(attempt, out), FAILED; }
static enum outcome terminate(const struct attempt *attempt, int out) { return echo(attempt, out), TERMINATED; }
static enum outcome busy(const struct attempt *attempt, int out) { return echo(attempt, out), BUSY; }
static enum outcome later(const struct attempt *attempt, int out) { return echo(attempt, out), LATER; }
static enum outcome crash(const struct attempt *attempt, int out) { echo(attempt, out), abort(); }

static enum outcome about(const struct attempt *attempt, int out) {
    natsMsg *task = attempt->request;
    return dprintf(out, "{\"id\":\"%s\",\"type\":\"%s\",\"queue\":\"%s\",\"try\":%s,\"max_tries\":%s}",
                   header(task, "AJ-Task-Id"), header(task, "AJ-Task-Type"), header(task, "AJ-Queue"),
                   header(task, "AJ-Try"), header(task, "AJ-Max-Tries")) > 0 ? DONE : FAILED;
}

const struct handler handlers[] = {
    {"checksum", checksum}, {"echo", echo}, {"fail", fail},   {"crash", crash}, {"terminate", terminate},
    {"busy", busy},         {"later", later}, {"about", about}, {NULL, NULL},
};
