/* The protocol's side: subscriptions and replies. Nothing here knows what a task does. Each type has a thread of its
 * own (the library's), and each attempt a process of its own: a handler that crashes takes nothing with it. */
#define _GNU_SOURCE
#include "responder.h"
#include <cjson/cJSON.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

const char *header(natsMsg *message, const char *name) {
    const char **keys = NULL, **values, *found = NULL;
    int count = 0, length;
    natsMsgHeader_Keys(message, &keys, &count);
    for (int i = 0; i < count && !found; i++) {
        if (natsMsgHeader_Values(message, keys[i], &values, &length) != NATS_OK)
            continue;
        for (int j = 0; j < length && !found; j++) {
            /* after a blank value libnats 3.4 takes the whole next line for the value */
            const char *colon = strncasecmp(values[j], "AJ-", 3) == 0 ? strchr(values[j], ':') : NULL;
            const char *key = colon ? values[j] : keys[i], *value = colon ? colon + 1 : values[j];
            size_t width = colon ? (size_t)(colon - key) : strlen(key), blanks = strspn(value, " \t");
            if (width == strlen(name) && strncasecmp(key, name, width) == 0 && value[blanks])
                found = value + blanks;
        }
        free(values);
    }
    free(keys);
    return found;
}

/* Runs the handler in a child; what it wrote is in *body (to be freed). Returns the reply's header, NULL for none. */
static const char *run(const struct handler *handler, const struct attempt *attempt, char **body, size_t *length) {
    static const char *const names[] = {NULL, "AJ-Error", "AJ-Terminate", "AJ-Busy", "AJ-Retry-After-Ms"};
    int out = memfd_create("result", MFD_CLOEXEC), status = 0, child = fork();
    if (child == 0)
        _exit(handler->run(attempt, out));
    bool ran = child > 0 && waitpid(child, &status, 0) == child;
    *length = ran ? lseek(out, 0, SEEK_END) : 0;
    *body = calloc(1, *length + 64); /* room for what may be added */
    *length = pread(out, *body, *length, 0);
    close(out);
    if (WIFSIGNALED(status))
        *length += sprintf(*body + *length, " (%s)", strsignal(WTERMSIG(status)));
    return !ran ? "AJ-Busy" : WIFSIGNALED(status) ? "AJ-Error" : names[WEXITSTATUS(status)];
}

static void answer(natsConnection *nats, natsMsg *request, const char *name, char *body, size_t length) {
    natsMsg *reply = NULL;
    natsMsg_Create(&reply, natsMsg_GetReply(request), NULL, body, name ? 0 : length);
    if (name && strcmp(name, "AJ-Retry-After-Ms") == 0)
        natsMsgHeader_Set(reply, "AJ-Error", "later");
    if (name) { /* one line of 4,096 bytes at most, cut between characters */
        for (char *c = body; (c = strpbrk(c, "\r\n"));)
            *c = ' ';
        for (length = length > 4096 ? 4096 : length; length && (body[length] & 0xC0) == 0x80;)
            length--;
        body[length] = 0;
        natsMsgHeader_Set(reply, name, body[strspn(body, " ")] ? body : "no text");
    }
    natsConnection_PublishMsg(nats, reply);
    natsMsg_Destroy(reply);
}

static void serve(natsConnection *nats, natsSubscription *subscription, natsMsg *request, void *handler) {
    cJSON *task = cJSON_ParseWithLength(natsMsg_GetData(request), natsMsg_GetDataLength(request));
    const char *base64 = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(task, "payload"));
    const char *version = header(request, "AJ-Protocol"), *name = "AJ-Terminate";
    size_t encoded = base64 ? strlen(base64) : 0, length = 0;
    char *payload = calloc(1, encoded + 1), *body = NULL;
    int decoded = EVP_DecodeBlock((void *)payload, (const void *)(base64 ? base64 : ""), encoded);
    if (version && strcmp(version, "1") != 0)
        name = "AJ-Busy", length = asprintf(&body, "protocol %s is not spoken here", version);
    else if (!task || decoded < 0)
        length = asprintf(&body, "that is no task");
    else { /* what stands for the padding is no part of the payload */
        decoded -= encoded ? (base64[encoded - 1] == '=') + (base64[encoded - 2] == '=') : 0;
        name = run(handler, &(struct attempt){payload, decoded, request}, &body, &length);
    }
    if (!name && (int64_t)length > natsConnection_GetMaxPayload(nats))
        name = "AJ-Terminate", length = sprintf(body, "the result is too large");
    answer(nats, request, name, body, length);
    free(body);
    free(payload);
    cJSON_Delete(task);
    natsMsg_Destroy(request);
}

int main(void) {
    const char *url = getenv("NATS_URL"), *family = getenv("AJC_FAMILY");
    natsOptions *options = NULL;
    natsConnection *nats = NULL;
    sigset_t ending;
    sigemptyset(&ending);
    sigaddset(&ending, SIGTERM);
    sigprocmask(SIG_BLOCK, &ending, NULL); /* before there are threads, so that main alone takes it */
    natsOptions_Create(&options);
    natsOptions_SetURL(options, url ? url : "nats://127.0.0.1:4222");
    natsOptions_SetName(options, "polyglot-c");
    natsOptions_SetMaxReconnect(options, -1);
    natsOptions_SetReconnectWait(options, 250);
    natsStatus status = natsConnection_Connect(&nats, options);
    for (const struct handler *handler = handlers; status == NATS_OK && handler->name; handler++) {
        char subject[256];
        snprintf(subject, sizeof subject, "ajc.exec.%s:%s", family ? family : "conform", handler->name);
        natsSubscription *made; /* freed with the connection */
        status = natsConnection_QueueSubscribe(&made, nats, subject, "ajc", serve, (void *)handler);
    }
    if (status != NATS_OK)
        return fprintf(stderr, "%s\n", natsStatus_GetText(status)), 1;
    sigwait(&ending, &(int){0});
    natsConnection_DrainTimeout(nats, 30000); /* leaves the queue group, ends what has arrived, then closes */
    while (!natsConnection_IsClosed(nats))
        nats_Sleep(10);
}
