#include <nats/nats.h>

struct attempt {
    const char *payload; /* ends with a NUL that is not counted */
    size_t length;
    natsMsg *request;
};

/* What a handler returns. What it wrote to `out` is the result, or the text that says why; with LATER it says when,
 * in milliseconds. */
enum outcome { DONE, FAILED, TERMINATED, BUSY, LATER };

struct handler {
    const char *name;
    enum outcome (*run)(const struct attempt *attempt, int out);
};

extern const struct handler handlers[]; /* ends with one that has no name */

/* The first value that is not blank, whatever the case of the name; NULL when there is none. */
const char *header(natsMsg *message, const char *name);
