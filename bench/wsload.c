/* WebSocket load: echoes through Daebus's JSON protocol, every reply checked by its number and its whole text.

   wsload PORT PATH CONNECTIONS TEXT_BYTES SECONDS

   Each connection sends {"type":"echo","data":{"n":"<16 hex digits>","text":"<TEXT_BYTES letters>"}} and sends the next
   when the reply {"type":"response","data":<the same>} is complete. Prints one line of JSON: replies per second, p50 and
   p99 in microseconds, errors; the first part of a second is not counted. Exit code 1 when anything was wrong.
   Build: cc -O2 -o wsload wsload.c */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define WARM_UP 0.4
#define PATIENCE 5.0 /* seconds without any reply after which the run fails */

static const uint8_t MASK[4] = {0x37, 0xfa, 0x21, 0x3d};
static const char HEAD[] = "{\"type\":\"echo\",\"data\":";
static const char DATA_HEAD[] = "{\"n\":\"";
static const char TYPE[] = "\"type\":\"response\"";

struct connection {
    int fd;
    uint64_t number;
    double sent_at;
    char *data;      /* the object that must come back */
    uint8_t *frame;  /* the masked frame that carries it */
    size_t unsent;   /* bytes of the frame still to be written */
    uint8_t *buffer; /* received bytes that are not parsed yet */
    size_t filled;
};

static size_t text_size, data_size, payload_size, frame_head, frame_size, buffer_size;
static uint64_t errors, counted;
static double *latencies;
static size_t latencies_room;
static double counting_from = 1e300;
static double last_reply;
static int poller;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static void fail(const char *what) {
    fprintf(stderr, "wsload: %s\n", what);
    exit(1);
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void lose(struct connection *c) {
    errors++;
    epoll_ctl(poller, EPOLL_CTL_DEL, c->fd, NULL);
    close(c->fd);
    c->fd = -1;
}

static void watch(struct connection *c, int writing) {
    struct epoll_event e = {.events = EPOLLIN | (writing ? EPOLLOUT : 0), .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &e);
}

static void push(struct connection *c) {
    while (c->unsent) {
        ssize_t sent = send(c->fd, c->frame + frame_size - c->unsent, c->unsent, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno == EAGAIN)
                watch(c, 1);
            else
                lose(c);
            return;
        }
        c->unsent -= sent;
    }
}

/* Only the number changes from one message to the next, in the plain copy and in the masked frame. */
static void send_next(struct connection *c) {
    char digits[17];
    c->number++;
    snprintf(digits, sizeof digits, "%016llx", (unsigned long long)c->number);
    size_t in_data = sizeof DATA_HEAD - 1, in_payload = sizeof HEAD - 1 + in_data;
    memcpy(c->data + in_data, digits, 16);
    for (size_t i = 0; i < 16; i++)
        c->frame[frame_head + in_payload + i] = digits[i] ^ MASK[(in_payload + i) & 3];
    c->unsent = frame_size;
    c->sent_at = now();
    push(c);
}

static void build(struct connection *c, uint64_t first) {
    c->number = first;
    c->data = malloc(data_size);
    c->frame = malloc(frame_size);
    c->buffer = malloc(buffer_size);
    char *payload = malloc(payload_size);
    if (!c->data || !c->frame || !c->buffer || !payload)
        fail("out of memory");
    char *p = c->data;
    p = mempcpy(p, DATA_HEAD, sizeof DATA_HEAD - 1);
    memset(p, '0', 16);
    p = mempcpy(p + 16, "\",\"text\":\"", 10);
    for (size_t i = 0; i < text_size; i++)
        *p++ = 'a' + (i + first) % 26;
    memcpy(p, "\"}", 2);
    p = mempcpy(payload, HEAD, sizeof HEAD - 1);
    p = mempcpy(p, c->data, data_size);
    *p = '}';
    uint8_t *f = c->frame;
    *f++ = 0x81;
    if (payload_size < 126) {
        *f++ = 0x80 | payload_size;
    } else if (payload_size < 65536) {
        *f++ = 0x80 | 126;
        *f++ = payload_size >> 8;
        *f++ = payload_size;
    } else {
        *f++ = 0x80 | 127;
        for (int shift = 56; shift >= 0; shift -= 8)
            *f++ = (uint64_t)payload_size >> shift;
    }
    f = mempcpy(f, MASK, 4);
    for (size_t i = 0; i < payload_size; i++)
        f[i] = payload[i] ^ MASK[i & 3];
    free(payload);
}

static void reply(struct connection *c, const uint8_t *payload, size_t size) {
    double at = now();
    /* Numbers differ between connections and messages, so a reply to another message is always noticed. */
    if (!memmem(payload, size, TYPE, sizeof TYPE - 1) || !memmem(payload, size, c->data, data_size))
        errors++;
    else if (at >= counting_from) {
        if (counted == latencies_room) {
            latencies_room *= 2;
            latencies = realloc(latencies, latencies_room * sizeof *latencies);
            if (!latencies)
                fail("out of memory");
        }
        latencies[counted++] = at - c->sent_at;
    }
    last_reply = at;
    send_next(c);
}

static void pong(struct connection *c, const uint8_t *payload, size_t size) {
    uint8_t frame[6 + 125];
    if (c->unsent) /* a pong must not go into the middle of a frame; the server pings again */
        return;
    frame[0] = 0x8a;
    frame[1] = 0x80 | size;
    memcpy(frame + 2, MASK, 4);
    for (size_t i = 0; i < size; i++)
        frame[6 + i] = payload[i] ^ MASK[i & 3];
    if (send(c->fd, frame, 6 + size, MSG_NOSIGNAL) != (ssize_t)(6 + size))
        lose(c);
}

/* Handles the frame at `at`; returns its size, or 0 when it is not complete yet. */
static size_t take(struct connection *c, const uint8_t *at, size_t available) {
    if (available < 2)
        return 0;
    size_t size = at[1] & 0x7f, head = size < 126 ? 2 : size == 126 ? 4 : 10;
    if (available < head)
        return 0;
    if (head > 2) {
        size = 0;
        for (size_t i = 2; i < head; i++)
            size = size << 8 | at[i];
    }
    if (at[1] & 0x80 || size > buffer_size - head) { /* masked although a server sent it, or longer than any valid reply */
        lose(c);
        return 0;
    }
    if (available < head + size)
        return 0;
    switch (at[0]) {
    case 0x81:
        reply(c, at + head, size);
        break;
    case 0x89:
        pong(c, at + head, size);
        break;
    case 0x8a:
        break;
    default: /* a close frame, a fragment, binary */
        lose(c);
    }
    return head + size;
}

static void receive(struct connection *c) {
    ssize_t got = recv(c->fd, c->buffer + c->filled, buffer_size - c->filled, 0);
    if (got <= 0) {
        if (got == 0 || errno != EAGAIN)
            lose(c);
        return;
    }
    c->filled += got;
    size_t done = 0, step;
    while (c->fd >= 0 && (step = take(c, c->buffer + done, c->filled - done)))
        done += step;
    memmove(c->buffer, c->buffer + done, c->filled - done);
    c->filled -= done;
}

static int connect_to(int port, const char *path) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    struct timeval patience = {.tv_sec = 5};
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address))
        fail("cannot connect");
    char text[4096];
    int size = snprintf(text, sizeof text,
                        "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n\r\n",
                        path, port);
    if (send(fd, text, size, MSG_NOSIGNAL) != size)
        fail("cannot send the handshake");
    for (size = 0; size < 4 || memcmp(text + size - 4, "\r\n\r\n", 4); size++)
        if (size == (int)sizeof text || recv(fd, text + size, 1, 0) != 1)
            fail("no answer to the handshake");
    if (memcmp(text, "HTTP/1.1 101", 12))
        fail("the upgrade was refused");
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

int main(int argc, char **argv) {
    if (argc != 6)
        fail("usage: wsload PORT PATH CONNECTIONS TEXT_BYTES SECONDS");
    int port = atoi(argv[1]), count = atoi(argv[3]);
    double seconds = atof(argv[5]);
    text_size = strtoul(argv[4], NULL, 10);
    data_size = sizeof DATA_HEAD - 1 + 16 + 10 + text_size + 2;
    payload_size = sizeof HEAD - 1 + data_size + 1;
    frame_head = 4 + (payload_size < 126 ? 2 : payload_size < 65536 ? 4 : 10);
    frame_size = frame_head + payload_size;
    buffer_size = 2 * payload_size + 4096;
    latencies_room = 1 << 20;
    latencies = malloc(latencies_room * sizeof *latencies);
    struct connection *all = calloc(count, sizeof *all);
    if (port <= 0 || count <= 0 || seconds <= 0 || !latencies || !all)
        fail("bad arguments");
    poller = epoll_create1(0);
    for (int i = 0; i < count; i++) {
        build(&all[i], (uint64_t)(i + 1) << 40);
        all[i].fd = connect_to(port, argv[2]);
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = &all[i]};
        epoll_ctl(poller, EPOLL_CTL_ADD, all[i].fd, &e);
    }
    double begun = last_reply = now(), end = begun + WARM_UP + seconds;
    counting_from = begun + WARM_UP;
    for (int i = 0; i < count; i++)
        send_next(&all[i]);
    struct epoll_event events[256];
    for (double at = begun; at < end && at - last_reply < PATIENCE; at = now()) {
        int ready = epoll_wait(poller, events, 256, 100);
        for (int i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            if (c->fd >= 0 && events[i].events & EPOLLOUT) {
                push(c);
                if (c->fd >= 0 && !c->unsent)
                    watch(c, 0);
            }
            if (c->fd >= 0 && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                receive(c);
        }
    }
    double elapsed = now() - counting_from;
    qsort(latencies, counted, sizeof *latencies, ascending);
    printf("{\"rate\": %.0f, \"p50\": %.0f, \"p99\": %.0f, \"errors\": %llu}\n", counted / elapsed,
           counted ? latencies[counted / 2] * 1e6 : 0, counted ? latencies[(size_t)(counted * 0.99)] * 1e6 : 0,
           (unsigned long long)errors);
    return errors || !counted;
}
