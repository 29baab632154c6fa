// SPDX-License-Identifier: Apache-2.0
// The monitor of a detached container: a process of some ten KiB that stays outside it. It keeps
// the log, serves those who attach, runs a command now and then (a health check), and at the end
// leaves the exit status, then becomes the command that cleans up or starts anew. It decides
// nothing: what it does is in struct mb_monitor.
//
// The container dies with its monitor (PR_SET_PDEATHSIG, from the plan). The monitor listens to no
// signal; it ends with the container, or when the command that starts it ends too early.
//
// One chunk of output is on its way at a time. Only when the log and every client have it, the next
// one is read: who writes faster than the log can take it, waits. A client that takes nothing for
// ten seconds is let go.
#include "end.h"
#include "log.h"
#include "minibox.h"
#include "sys.h"
#include "text.h"

#define SIGCHLD 17
#define SIGKILL 9
#define SIG_SETMASK 2
#define WNOHANG 1
#define ECHILD 10
#define EAGAIN 11
#define EINTR 4
#define EINVAL 22
#define EMFILE 24
#define ENOSPC 28
#define EDQUOT 122
#define AT_FDCWD (-100)
#define O_WRONLY 1
#define O_RDWR 2
#define O_CREAT 0100
#define O_APPEND 02000
#define O_NONBLOCK 04000
#define O_CLOEXEC 02000000
#define F_SETFD 2
#define F_GETFL 3
#define F_SETFL 4
#define F_DUPFD_CLOEXEC 1030
#define SOCK_FLAGS (O_NONBLOCK | O_CLOEXEC)
#define MSG_PEEK 2
#define MSG_DONTWAIT 0x40
#define MSG_NOSIGNAL 0x4000
#define MSG_CMSG_CLOEXEC 0x40000000
#define POLLIN 1
#define POLLOUT 4
#define POLLHUP 0x10
#define TIOCSWINSZ 0x5414
#define PR_SET_PDEATHSIG 1
#define PR_SET_DUMPABLE 4
#define PR_SET_NAME 15
#define CLOCK_REALTIME 0
#define CLOCK_MONOTONIC 1

#define MOST_CLIENTS 16
#define CHUNK 8192
#define PACKET 4097 // a client's: a byte that says what it is, and at most 4 KiB
#define UPPER_FD 9 // minibox/monitor.py knows this number, too
#define ALIVE_FD 8 // minibox/life/remove.py knows this number, too
#define FIRST_KEPT 10
#define SHORT_LIFE 10000 // ms
#define PATIENCE 10000 // ms for a client that takes nothing
#define LAST_PATIENCE 2000 // ms for a full disk when the container has ended
#define DISK_RETRY 100 // ms
#define ACCEPT_RETRY 500 // ms until the next client when there are no more fds
#define HANGUP_RETRY 200 // ms until a terminal that nobody has open is looked at again

struct pollfd {
    int fd;
    short events;
    short revents;
};

struct client {
    int fd; // -1: free
    int has_chunk;
    int has_left; // but what it has typed waits to be heard
};

static struct client clients[MOST_CLIENTS];
static struct log journal;

// The chunk on its way: a byte that says which stream, as clients get it, and the data.
static char chunk[1 + CHUNK];
static uint32_t chunk_size; // of the data; 0: there is none
static uint32_t chunk_logged; // bytes of the data that the log has
static uint64_t chunk_time; // ns since the epoch
static uint64_t chunk_began; // ms of the monotonic clock
static int chunk_in_log;

// What a client has typed, on its way to the container.
static char typed[PACKET];
static uint32_t typed_size;
static uint32_t typed_done;

static int master = -1;
static uint64_t hung_up_until; // ms; the terminal's other side is not open anywhere
static int committed;
static uint64_t began; // ms
static int timed_out;
static int dead; // the container's first process has ended
static int32_t exit_status;
static uint64_t dead_since; // ms
static uint64_t disk_full_until; // ms
static uint64_t deaf_until; // ms; no more clients can be accepted
static long tick_pid;

static uint64_t clock_ns(int clock) {
    int64_t t[2] = {0, 0};
    sys6(SYS_CLOCK_GETTIME, (uint64_t)clock, sys_address(t), 0, 0, 0, 0);
    return (uint64_t)t[0] * 1000000000u + (uint64_t)t[1];
}

static uint64_t now_ms(void) { return clock_ns(CLOCK_MONOTONIC) / 1000000u; }

static void close_fd(int *fd) {
    if (*fd >= 0) {
        sys6(SYS_CLOSE, (uint64_t)*fd, 0, 0, 0, 0, 0);
    }
    *fd = -1;
}

static void do_not_block(int fd) {
    long flags = sys6(SYS_FCNTL, (uint64_t)fd, F_GETFL, 0, 0, 0, 0);
    if (fd >= 0 && flags >= 0) {
        sys6(SYS_FCNTL, (uint64_t)fd, F_SETFL, (uint64_t)flags | O_NONBLOCK, 0, 0, 0);
    }
}

static void set_signal_mask(uint64_t mask) {
    sys6(SYS_RT_SIGPROCMASK, SIG_SETMASK, sys_address(&mask), 0, sizeof mask, 0, 0);
}

// Only what the monitor needs stays open, close-on-exec, and 0, 1, 2 are /dev/null. 0 or -errno.
static long keep_fds(struct mb_monitor *m) {
    int32_t *kept[] = {&m->alive, &m->starter, &m->listener, &m->fds,
                       &m->input, &m->output,  &m->error,    &m->record};
    int count = sizeof kept / sizeof *kept;
    int last = FIRST_KEPT - 1;
    for (int k = 0; k < count; k++) {
        if (*kept[k] >= 0) {
            long fd =
                sys6(SYS_FCNTL, (uint64_t)*kept[k], F_DUPFD_CLOEXEC, (uint64_t)last + 1, 0, 0, 0);
            if (fd < 0) {
                return fd == -EINVAL ? -EMFILE : fd; // it means that no fd may be so high
            }
            *kept[k] = (int32_t)fd;
            last = (int)fd;
        }
    }
    // A caller with many fds has strangers' among ours, so each number is looked at.
    for (int fd = 0; fd < last; fd++) {
        int is_kept = 0;
        for (int k = 0; k < count; k++) {
            is_kept |= *kept[k] == fd;
        }
        if (!is_kept) {
            sys6(SYS_CLOSE, (uint64_t)fd, 0, 0, 0, 0, 0);
        }
    }
    sys6(SYS_CLOSE_RANGE, (uint64_t)last + 1, ~0u, 0, 0, 0, 0);
    for (int fd = 0; fd < 3; fd++) {
        sys6(SYS_OPENAT, (uint64_t)AT_FDCWD, sys_address("/dev/null"), O_RDWR, 0, 0, 0);
    }
    do_not_block(m->input);
    do_not_block(m->output);
    do_not_block(m->error);
    do_not_block(m->listener);
    // Two have numbers that others know; nothing else gets the one where the upper layer belongs.
    sys6(SYS_DUP3, (uint64_t)m->alive, ALIVE_FD, O_CLOEXEC, 0, 0, 0);
    close_fd(&m->alive);
    m->alive = ALIVE_FD;
    return sys6(SYS_DUP3, 0, UPPER_FD, O_CLOEXEC, 0, 0, 0);
}

// The child sends fds that only it can open: its terminal ('m') and its overlay's upper layer
// ('u').
static void receive_fds(struct mb_monitor *m) {
    for (;;) {
        char what = 0;
        struct {
            uint64_t size;
            int32_t level, type, fd, pad;
        } control = {0, 0, 0, -1, 0};
        uint64_t vector[2] = {sys_address(&what), 1};
        uint64_t header[7] = {0, 0, sys_address(vector), 1, sys_address(&control), sizeof control,
                              0};
        long n = sys6(SYS_RECVMSG, (uint64_t)m->fds, sys_address(header),
                      MSG_DONTWAIT | MSG_CMSG_CLOEXEC, 0, 0, 0);
        if (n == 0) {
            close_fd(&m->fds);
        }
        if (n <= 0) {
            return;
        }
        if (what == 'm' && control.fd >= 0) {
            master = control.fd;
            do_not_block(master);
        } else if (what == 'u' && control.fd >= 0) {
            sys6(SYS_DUP3, (uint64_t)control.fd, UPPER_FD, O_CLOEXEC, 0, 0, 0);
            close_fd(&control.fd);
        }
    }
}

// What is frozen by a v1 cgroup ends only when it is let go.
static void kill_container(const struct mb_plan *plan, const struct mb_monitor *m) {
    sys6(SYS_KILL, (uint64_t)plan->second_pid, SIGKILL, 0, 0, 0, 0);
    if (!m->thaw) {
        return;
    }
    long fd = sys6(SYS_OPENAT, (uint64_t)AT_FDCWD, m->thaw, O_WRONLY | O_CLOEXEC, 0, 0, 0);
    if (fd >= 0) {
        const char *text = (const char *)(uintptr_t)m->thawed;
        uint64_t size = 0;
        while (text[size]) {
            size++;
        }
        sys6(SYS_WRITE, (uint64_t)fd, m->thawed, size, 0, 0, 0);
        sys6(SYS_CLOSE, (uint64_t)fd, 0, 0, 0, 0, 0);
    }
}

// Take the status of whatever has ended. The container's first process keeps its number, and stays
// in /proc, until the start is committed: whoever starts it has to look at it.
static void reap(const struct mb_plan *plan) {
    while (committed) {
        int32_t status = 0;
        long pid = sys6(SYS_WAIT4, (uint64_t)-1, sys_address(&status), WNOHANG, 0, 0, 0);
        if (pid <= 0) {
            return;
        }
        if (pid == tick_pid) {
            tick_pid = 0;
        } else if (pid == plan->second_pid) {
            dead = 1;
            dead_since = now_ms();
            hung_up_until = 0;
            exit_status = status;
        }
    }
}

// The start was not committed: it never happened.
static _Noreturn void undo(const struct mb_plan *plan, const struct mb_monitor *m) {
    do {
        kill_container(plan, m); // who forks meanwhile, leaves another number there
    } while (sys6(SYS_WAIT4, (uint64_t)-1, 0, 0, 0, 0, 0) != -ECHILD);
    sys_exit(125);
}

static void hear_starter(struct mb_plan *plan, struct mb_monitor *m) {
    char byte = 0;
    long n = sys6(SYS_READ, (uint64_t)m->starter, sys_address(&byte), 1, 0, 0, 0);
    if (n == -EINTR || n == -EAGAIN) {
        return;
    }
    if (n != 1 || byte != 'c') {
        undo(plan, m);
    }
    committed = 1;
    began = now_ms();
    sys6(SYS_WRITE, (uint64_t)m->starter, sys_address(&byte), 1, 0, 0, 0); // yes
    close_fd(&m->starter);
    if (m->fds >= 0) {
        receive_fds(m);
    }
    reap(plan);
}

static _Noreturn void become(const uint64_t *argv, const struct mb_monitor *m) {
    set_signal_mask(0);
    sys6(SYS_EXECVE, argv[0], sys_address(argv), m->environment, 0, 0, 0);
    sys_exit(127);
}

static const uint64_t *argv_of(uint64_t address) { return (const uint64_t *)(uintptr_t)address; }

static void tick(const struct mb_monitor *m) {
    if (tick_pid) {
        return; // the last one is not through yet
    }
    long pid = sys6(SYS_CLONE, SIGCHLD, 0, 0, 0, 0, 0);
    if (pid == 0) {
        sys6(SYS_PRCTL, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0, 0);
        become(argv_of(m->tick), m);
    }
    tick_pid = pid > 0 ? pid : 0;
}

static int has_hung_up(int fd) {
    struct pollfd polled = {fd, 0, 0};
    int64_t now[2] = {0, 0};
    long n = sys6(SYS_PPOLL, sys_address(&polled), 1, sys_address(now), 0, 0, 0);
    return n > 0 && polled.revents & POLLHUP;
}

// A place for one more: a free one or, when there is none, that of a client which has left. What it
// had typed is lost then, but a container that does not read shall not lock everybody out.
static struct client *free_client(void) {
    for (int k = 0; k < MOST_CLIENTS; k++) {
        if (clients[k].fd < 0) {
            return &clients[k];
        }
    }
    for (int k = 0; k < MOST_CLIENTS; k++) {
        if (has_hung_up(clients[k].fd)) {
            close_fd(&clients[k].fd);
            return &clients[k];
        }
    }
    return 0;
}

static void accept_clients(const struct mb_monitor *m) {
    for (;;) {
        long fd = sys6(SYS_ACCEPT4, (uint64_t)m->listener, 0, 0, SOCK_FLAGS, 0, 0);
        if (fd < 0) {
            deaf_until = fd == -EAGAIN ? 0 : now_ms() + ACCEPT_RETRY;
            return;
        }
        struct client *client = free_client();
        if (!client) {
            sys6(SYS_CLOSE, (uint64_t)fd, 0, 0, 0, 0, 0);
            continue;
        }
        client->fd = (int)fd;
        client->has_chunk = 1; // it begins with the next one
        client->has_left = 0;
    }
}

// Hand what was typed to the container as far as it takes it.
static void pass_typed(struct mb_monitor *m) {
    int *sink = master >= 0 ? &master : &m->input;
    while (typed_done < typed_size && *sink >= 0) {
        long n = sys6(SYS_WRITE, (uint64_t)*sink, sys_address(typed + typed_done),
                      typed_size - typed_done, 0, 0, 0);
        if (n == -EAGAIN) {
            return;
        }
        if (n <= 0) {
            if (sink != &master) {
                close_fd(sink); // it does not read any more
            }
            break;
        }
        typed_done += (uint32_t)n;
    }
    typed_size = typed_done = 0;
}

static uint16_t two_bytes(const char *at) {
    return (uint16_t)((uint8_t)at[0] | (uint32_t)(uint8_t)at[1] << 8);
}

// A packet from a client: 'i' and input; 'e': the input ends; 'w', rows and columns, two bytes
// each; 'k': kill the container.
static void hear_client(const struct mb_plan *plan, struct mb_monitor *m, struct client *client) {
    long n = sys6(SYS_RECVFROM, (uint64_t)client->fd, sys_address(typed), sizeof typed,
                  MSG_DONTWAIT, 0, 0);
    if (n == -EAGAIN || n == -EINTR) {
        return;
    }
    if (n <= 0) {
        close_fd(&client->fd);
        return;
    }
    if (typed[0] == 'i') {
        typed_size = (uint32_t)n;
        typed_done = 1;
        pass_typed(m);
    } else if (typed[0] == 'e' && master < 0) {
        close_fd(&m->input);
    } else if (typed[0] == 'w' && n == 5 && master >= 0) {
        uint16_t window[4] = {two_bytes(typed + 1), two_bytes(typed + 3), 0, 0};
        sys6(SYS_IOCTL, (uint64_t)master, TIOCSWINSZ, sys_address(window), 0, 0, 0);
    } else if (typed[0] == 'k' && committed && !dead) {
        kill_container(plan, m);
    }
}

// While input waits nobody is heard, but who has gone and has left nothing makes room.
static void look_after(struct client *client) {
    char byte;
    long n = sys6(SYS_RECVFROM, (uint64_t)client->fd, sys_address(&byte), 1,
                  MSG_DONTWAIT | MSG_PEEK, 0, 0);
    if (n > 0) {
        client->has_left = 1;
    } else if (n != -EAGAIN) {
        close_fd(&client->fd);
    }
}

// Read the next chunk from a stream. 1 when there is one, 0 when there is nothing now; a stream
// that has come to its end is closed.
static int read_chunk(int *fd, int stream) {
    if (*fd < 0) {
        return 0;
    }
    long n = sys6(SYS_READ, (uint64_t)*fd, sys_address(chunk + 1), CHUNK, 0, 0, 0);
    if (n == -EAGAIN || n == -EINTR) {
        return 0;
    }
    if (n <= 0) {
        if (fd == &master && !dead) {
            hung_up_until = now_ms() + HANGUP_RETRY; // somebody may open it again
        } else {
            close_fd(fd);
        }
        return 0;
    }
    chunk[0] = (char)stream;
    chunk_size = (uint32_t)n;
    chunk_logged = 0;
    chunk_in_log = 0;
    chunk_time = clock_ns(CLOCK_REALTIME);
    chunk_began = now_ms();
    for (int k = 0; k < MOST_CLIENTS; k++) {
        clients[k].has_chunk = 0;
    }
    return 1;
}

static void log_chunk(void) {
    long r = log_write(&journal, chunk[0], chunk_time, chunk + 1, chunk_size, &chunk_logged);
    if ((r == -ENOSPC || r == -EDQUOT) && log_shed(&journal) == 0) {
        r = log_write(&journal, chunk[0], chunk_time, chunk + 1, chunk_size, &chunk_logged);
    }
    if (r == 0 || (dead && now_ms() - dead_since >= LAST_PATIENCE)) {
        chunk_in_log = 1;
    } else {
        disk_full_until = now_ms() + DISK_RETRY;
    }
}

// Bring the chunk a step further; it is gone when everybody has it.
static void deliver(void) {
    if (!chunk_in_log && now_ms() >= disk_full_until) {
        log_chunk();
    }
    int is_through = chunk_in_log;
    for (int k = 0; k < MOST_CLIENTS; k++) {
        struct client *client = &clients[k];
        if (client->fd < 0 || client->has_chunk) {
            continue;
        }
        long n = sys6(SYS_SENDTO, (uint64_t)client->fd, sys_address(chunk), 1 + chunk_size,
                      MSG_DONTWAIT | MSG_NOSIGNAL, 0, 0);
        if (n >= 0) {
            client->has_chunk = 1;
        } else if (n != -EAGAIN || now_ms() - chunk_began >= PATIENCE) {
            close_fd(&client->fd);
        } else {
            is_through = 0;
        }
    }
    if (is_through) {
        chunk_size = 0;
    }
}

static int next_chunk(struct mb_monitor *m) {
    return read_chunk(&m->output, LOG_STDOUT) || read_chunk(&m->error, LOG_STDERR) ||
           (now_ms() >= hung_up_until && read_chunk(&master, LOG_STDOUT));
}

// Move output until there is none or somebody is not ready for it. 1 when none is on its way.
static int pump(struct mb_monitor *m) {
    for (int turns = 0; turns < 64; turns++) {
        if (chunk_size) {
            deliver();
            if (chunk_size) {
                return 0;
            }
        } else if (!next_chunk(m)) {
            return 1;
        }
    }
    return 0;
}

static int add_always(struct pollfd *polled, int n, int fd, short events) {
    if (fd < 0) {
        return n;
    }
    polled[n].fd = fd;
    polled[n].events = events;
    polled[n].revents = 0;
    return n + 1;
}

static int add(struct pollfd *polled, int n, int fd, short events) {
    return events ? add_always(polled, n, fd, events) : n;
}

// What poll has said of an fd; 0 where it was not asked.
static short is_ready(const struct pollfd *polled, int n, int fd) {
    for (int k = 0; k < n; k++) {
        if (fd >= 0 && polled[k].fd == fd) {
            return polled[k].revents;
        }
    }
    return 0;
}

static uint64_t earlier(uint64_t a, uint64_t b) { return a < b ? a : b; }

// When the loop must turn without anything being ready.
static uint64_t deadline(const struct mb_monitor *m, uint64_t next_tick) {
    uint64_t now = now_ms();
    uint64_t at = m->interval && !dead ? next_tick : ~0ull;
    if (m->lifetime && committed && !dead) {
        at = earlier(at, began + m->lifetime);
    }
    if (chunk_size) {
        at = earlier(at, chunk_in_log ? chunk_began + PATIENCE : disk_full_until);
    }
    if (chunk_size && dead) {
        at = earlier(at, now + DISK_RETRY);
    }
    if (master >= 0 && now < hung_up_until) {
        at = earlier(at, hung_up_until);
    }
    if (now < deaf_until) {
        at = earlier(at, deaf_until);
    }
    return at;
}

static int wait_for_something(const struct mb_monitor *m, int signals, uint64_t next_tick,
                              struct pollfd *polled) {
    int n = 0;
    short reading = chunk_size || !committed ? 0 : POLLIN;
    short terminal = now_ms() < hung_up_until ? 0 : reading;
    short typing = typed_size ? POLLOUT : 0;
    n = add(polled, n, signals, POLLIN);
    n = add(polled, n, m->starter, POLLIN);
    n = add(polled, n, m->listener, now_ms() < deaf_until ? 0 : POLLIN);
    n = add(polled, n, m->fds, committed ? POLLIN : 0);
    n = add(polled, n, m->output, reading);
    n = add(polled, n, m->error, reading);
    n = add(polled, n, m->input, master < 0 ? typing : 0);
    n = add(polled, n, master, (short)(terminal | typing));
    for (int k = 0; k < MOST_CLIENTS; k++) {
        short wants = (short)((typed_size ? 0 : POLLIN) |
                              (chunk_size && !clients[k].has_chunk ? POLLOUT : 0));
        if (!clients[k].has_left || wants & POLLIN) {
            n = add_always(polled, n, clients[k].fd, wants); // its end shows without asking
        }
    }
    uint64_t at = deadline(m, next_tick);
    uint64_t now = now_ms();
    uint64_t left = at > now ? at - now : 0;
    int64_t timeout[2] = {(int64_t)(left / 1000), (int64_t)(left % 1000 * 1000000)};
    sys6(SYS_PPOLL, sys_address(polled), (uint64_t)n, at == ~0ull ? 0 : sys_address(timeout), 0, 0,
         0);
    return n;
}

// One turn: hear everybody, then move output. Clients are let in before anything is read, so that
// one that was there at the start misses nothing.
static void turn(struct mb_plan *plan, struct mb_monitor *m, int signals, uint64_t *next_tick) {
    struct pollfd polled[8 + MOST_CLIENTS];
    int n = wait_for_something(m, signals, *next_tick, polled);
    if (is_ready(polled, n, signals)) {
        char info[128];
        sys6(SYS_READ, (uint64_t)signals, sys_address(info), sizeof info, 0, 0, 0);
        reap(plan);
    }
    accept_clients(m);
    if (is_ready(polled, n, m->starter)) {
        hear_starter(plan, m);
    }
    if (m->fds >= 0 && is_ready(polled, n, m->fds)) {
        receive_fds(m);
    }
    if (typed_size) {
        pass_typed(m);
    }
    for (int k = 0; k < MOST_CLIENTS; k++) {
        short ready = is_ready(polled, n, clients[k].fd);
        if (typed_size && ready & POLLHUP) {
            look_after(&clients[k]);
        } else if (!typed_size && ready) {
            hear_client(plan, m, &clients[k]);
        }
    }
    if (committed && m->lifetime && !dead && now_ms() - began >= m->lifetime) {
        kill_container(plan, m);
        m->lifetime = 0;
        timed_out = 1;
    }
    if (committed && m->interval && !dead && now_ms() >= *next_tick) {
        tick(m);
        *next_tick = now_ms() + m->interval;
    }
}

static void run_container(struct mb_plan *plan, struct mb_monitor *m, int signals) {
    uint64_t next_tick = now_ms() + m->interval;
    for (;;) {
        int is_empty = committed && pump(m);
        if (dead && is_empty) {
            return;
        }
        if (!dead || chunk_size) {
            turn(plan, m, signals, &next_tick);
        }
    }
}

static void record_end(const struct mb_plan *plan, const struct mb_monitor *m, int saw_oom) {
    // minibox-init ends as 128+n, and says in the arena what it was.
    int32_t status = plan->status >= 0 ? plan->status : exit_status;
    int signal = status & 0x7f;
    int code = signal ? 128 + signal : (status >> 8) & 0xff;
    int oom_killed = saw_oom && signal == SIGKILL && !timed_out;
    struct end end = {code, signal, timed_out, oom_killed, clock_ns(CLOCK_REALTIME)};
    end_record(m, &end); // from here on nobody needs this process
}

static void sleep_ms(uint32_t ms) {
    int64_t time[2] = {ms / 1000, ms % 1000 * 1000000L};
    sys6(SYS_NANOSLEEP, sys_address(time), 0, 0, 0, 0, 0);
}

static _Noreturn void monitor(struct mb_plan *plan, struct mb_monitor *m) {
    sys6(SYS_PRCTL, PR_SET_NAME, sys_address("minibox-monitor"), 0, 0, 0, 0);
    sys6(SYS_PRCTL, PR_SET_DUMPABLE, 0, 0, 0, 0, 0);
    for (int k = 0; k < MOST_CLIENTS; k++) {
        clients[k].fd = -1;
    }
    journal.size_limit = m->log_size;
    journal.files = m->log_files;
    uint64_t child_signal = 1ull << (SIGCHLD - 1);
    long r = keep_fds(m);
    long signals = sys6(SYS_SIGNALFD4, (uint64_t)-1, sys_address(&child_signal),
                        sizeof child_signal, SOCK_FLAGS, 0, 0);
    r = r < 0 ? r : signals < 0 ? signals : log_open(&journal);
    if (r < 0) {
        plan->error = (int32_t)-r;
        undo(plan, m);
    }
    run_container(plan, m, (int)signals);
    if (tick_pid) {
        sys6(SYS_KILL, (uint64_t)tick_pid, SIGKILL, 0, 0, 0, 0);
        sys6(SYS_WAIT4, (uint64_t)tick_pid, 0, 0, 0, 0, 0);
    }
    int saw_oom = end_had_oom(m);
    end_give_back(m);
    record_end(plan, m, saw_oom);
    for (int k = 0; k < MOST_CLIENTS; k++) {
        close_fd(&clients[k].fd);
    }
    close_fd(&m->listener);
    if (m->ended) {
        if (now_ms() - began < SHORT_LIFE) {
            sleep_ms(m->delay);
        }
        // Its successor holds the lock until it knows what is to be done.
        sys6(SYS_FCNTL, (uint64_t)m->alive, F_SETFD, 0, 0, 0, 0);
        become(argv_of(m->ended), m);
    }
    sys_exit(0);
}

long mb_monitor(struct mb_plan *plan, uint64_t flags, struct mb_monitor *m) {
    set_signal_mask(~0ull);
    plan->monitor_pid = (int32_t)sys6(SYS_GETPID, 0, 0, 0, 0, 0, 0);
    long pid = mb_fork_with(plan, flags | SIGCHLD);
    if (pid > 0) {
        monitor(plan, m);
    }
    return pid;
}
