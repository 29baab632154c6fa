// SPDX-License-Identifier: Apache-2.0
// Networks and IPC: interfaces, sockets, shared memory, queues and names of the host's.
#include "probe.h"
#include <linux/audit.h>
#include <linux/netlink.h>
#include <mqueue.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/un.h>

// interfaces: the names of all there shall be, each between commas.
static void interfaces(const struct probe *self) {
    (void)self;
    const char *expected = fact("interfaces");
    struct if_nameindex *all = if_nameindex();
    if (!all) {
        fail("if_nameindex: %s", strerror(errno));
    }
    for (struct if_nameindex *one = all; one->if_name; one++) {
        char name[IFNAMSIZ + 2];
        snprintf(name, sizeof name, ",%s,", one->if_name);
        if (!strstr(expected, name)) {
            fail("there is %s", one->if_name);
        }
    }
    pass("none but %s", expected);
}

// AF_PACKET is for CAP_NET_RAW, and finds only what is there.
static void packets(const struct probe *self) {
    (void)self;
    int fd = socket(AF_PACKET, SOCK_RAW, 0);
    if (fd < 0) {
        pass("no packet socket: %s", strerror(errno));
    }
    for (int index = 1; index < 300; index++) {
        struct ifreq request = {.ifr_ifindex = index};
        char name[IFNAMSIZ + 2];
        if (!ioctl(fd, SIOCGIFNAME, &request)) {
            snprintf(name, sizeof name, ",%s,", request.ifr_name);
            if (!strstr(fact("interfaces"), name)) {
                fail("it can listen on %s", request.ifr_name);
            }
        }
    }
    pass("a packet socket finds the own interfaces only");
}

static void change_interface(const struct probe *self) {
    (void)self;
    struct ifreq request = {.ifr_name = "lo"};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (ioctl(fd, SIOCGIFFLAGS, &request)) {
        fail("lo: %s", strerror(errno));
    }
    must_be_refused("the same flags for lo", ioctl(fd, SIOCSIFFLAGS, &request));
}

static void host_port(const struct probe *self) {
    (void)self;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in host = {.sin_family = AF_INET,
                               .sin_port = htons(atoi(fact("port"))),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (!connect(fd, (struct sockaddr *)&host, sizeof host)) {
        fail("the host's 127.0.0.1 answers");
    }
    pass("nobody of the host's answers at 127.0.0.1");
}

static void abstract_socket(const struct probe *self) {
    (void)self;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *name = fact("abstract");
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name));
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    memcpy(address.sun_path + 1, name, strlen(name));
    if (!connect(fd, (struct sockaddr *)&address, size)) {
        fail("the host's abstract socket answers");
    }
    if (errno != ECONNREFUSED) {
        fail("the host's abstract socket: %s", strerror(errno));
    }
    static char text[1 << 16];
    read_file("/proc/net/unix", text, sizeof text);
    if (strstr(text, name)) {
        fail("/proc/net/unix names the host's abstract socket");
    }
    pass("the host's abstract socket is not there");
}

// data: the family. Without a filter it is not tried: the kernel might load a module for it.
static void family(const struct probe *self) {
    int number = *(const int *)self->data;
    if (strcmp(status_field(getpid(), "Seccomp"), "2")) {
        fail("there is no filter, and without one it could load a module");
    }
    int type = number == AF_ALG ? SOCK_SEQPACKET : SOCK_STREAM;
    for (long high = 0; high < 2; high++) { // the kernel looks at the low 32 bits only
        long fd = syscall(SYS_socket, number | high << (sizeof(long) * 8 - 4), type, 0);
        if (fd >= 0 || (!is_refusal(errno) && errno != EAFNOSUPPORT)) {
            fail("socket: %s", fd >= 0 ? "it opens" : strerror(errno));
        }
    }
    pass("socket: %s", strerror(errno));
}

static void audit(const struct probe *self) {
    (void)self;
    struct {
        struct nlmsghdr header;
        struct audit_status status;
    } request = {{sizeof request, AUDIT_GET, NLM_F_REQUEST | NLM_F_ACK, 1, 0}, {0}};
    struct {
        struct nlmsghdr header;
        int error;
        char more[1024];
    } reply = {0};
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK, NETLINK_AUDIT);
    if (fd < 0) {
        pass("socket: %s", strerror(errno));
    }
    if (send(fd, &request, sizeof request, 0) < 0 || recv(fd, &reply, sizeof reply, 0) < 0) {
        pass("no answer: %s", strerror(errno));
    }
    if (reply.header.nlmsg_type != NLMSG_ERROR || !reply.error) {
        fail("the kernel tells its audit status");
    }
    pass("the kernel answers: %s", strerror(-reply.error));
}

static void posix_memory(const struct probe *self) {
    (void)self;
    char path[256];
    struct statvfs info;
    snprintf(path, sizeof path, "/dev/shm/%s", fact("shm"));
    if (!access(path, F_OK)) {
        fail("the host's %s is there", path);
    }
    if (statvfs("/dev/shm", &info) || info.f_blocks * info.f_frsize > 64ull << 20) {
        fail("/dev/shm is larger than 64 MiB");
    }
    pass("the host's is not there, and its size is limited");
}

static void system_v(const struct probe *self) {
    (void)self;
    key_t key = (key_t)strtol(fact("key"), NULL, 0);
    if (shmget(key, 0, 0) >= 0 || semget(key, 0, 0) >= 0 || msgget(key, 0) >= 0) {
        fail("memory, semaphores or a queue of the host's is there");
    }
    if (errno != ENOENT) {
        fail("msgget: %s", strerror(errno));
    }
    pass("the host's are not there");
}

static void queues(const struct probe *self) {
    (void)self;
    char name[256];
    snprintf(name, sizeof name, "/%s", fact("queue"));
    if (mq_open(name, O_RDONLY) >= 0) {
        fail("the host's queue is there");
    }
    if (errno != ENOENT) {
        fail("mq_open: %s", strerror(errno));
    }
    pass("the host's is not there");
}

static void names(const struct probe *self) {
    (void)self;
    char name[256];
    gethostname(name, sizeof name);
    if (!strcmp(name, fact("host"))) {
        fail("it is the host's: %s", name);
    }
    pass("%s", name);
}

static const int vsock = 40, alg = AF_ALG;

#define ROW(name, function, threat, data) {name, function, threat, data}
const struct probe network_probes[] = {
    ROW("interfaces", interfaces, "the host's networks", NULL),
    ROW("packet_sockets", packets, "what others send (CVE-2020-14386)", NULL),
    ROW("interface_flags", change_interface, "the networks of others", NULL),
    ROW("host_port", host_port, "services of the host's that trust 127.0.0.1", NULL),
    ROW("abstract_socket", abstract_socket, "services of the host's (CVE-2020-15257)", NULL),
    ROW("vsock", family, "the hypervisor's sockets, which no namespace hides", &vsock),
    ROW("alg", family, "the kernel's ciphers (CVE-2026-31431)", &alg),
    ROW("audit", audit, "the host's audit log", NULL),
    ROW("posix_memory", posix_memory, "memory of the host's programs", NULL),
    ROW("system_v", system_v, "memory, semaphores and queues of the host's programs", NULL),
    ROW("message_queues", queues, "queues of the host's programs", NULL),
    ROW("names", names, "where one is", NULL),
    ROW(NULL, NULL, NULL, NULL),
};
