// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A real mosquitto of a test's own: in a new directory, on a free port of the loopback, ended by
 * its process id. Include after cmocka.h. All assert on failure.
 */
#pragma once

#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

struct broker {
    char directory[64];
    int port;
    pid_t pid;
};

static inline void broker_path(const struct broker *broker, const char *name, char path[static 128])
{
    snprintf(path, 128, "%s/%s", broker->directory, name);
}

static inline void broker_write(const struct broker *broker, const char *name, const char *text)
{
    char path[128];
    broker_path(broker, name, path);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

/* Runs a shell line in the broker's directory. */
static inline void broker_shell(const struct broker *broker, const char *line)
{
    char command[2048];
    snprintf(command, sizeof(command), "cd %s && { %s; } >shell.log 2>&1", broker->directory, line);
    assert_int_equal(system(command), 0); // NOLINT(cert-env33-c)
}

/* A listening TCP socket; *port is 0 where the kernel is to pick one. Accepts nobody by itself. */
static inline int listen_at(const char *host, int *port)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_port = htons((uint16_t)*port),
                                   .sin_addr.s_addr = inet_addr(host) };
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(fd, 16), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    *port = ntohs(address.sin_port);
    return fd;
}

static inline int listen_somewhere(int *ret_port)
{
    *ret_port = 0;
    return listen_at("127.0.0.1", ret_port);
}

static inline void broker_init(struct broker *broker)
{
    *broker = (struct broker){ .directory = "/tmp/test-link-XXXXXX" };
    assert_non_null(mkdtemp(broker->directory));
    close(listen_somewhere(&broker->port));
}

static inline bool broker_answers(const struct broker *broker)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_port = htons((uint16_t)broker->port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool answers = connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
    close(fd);
    return answers;
}

/* Starts it with these lines after `listener PORT 127.0.0.1`, and waits until it answers. */
static inline void broker_start(struct broker *broker, const char *lines)
{
    char text[2048], path[128], log_path[128];
    snprintf(text, sizeof(text), "persistence false\nuser root\nlistener %d 127.0.0.1\n%s",
             broker->port, lines);
    broker_write(broker, "mosquitto.conf", text);
    broker_path(broker, "mosquitto.conf", path);
    broker_path(broker, "mosquitto.log", log_path);
    broker->pid = fork();
    assert_true(broker->pid >= 0);
    if (broker->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM); // a test that fails leaves none behind
        if (!freopen(log_path, "a", stderr) || !freopen("/dev/null", "w", stdout))
            _exit(1);
        execlp("mosquitto", "mosquitto", "-c", path, (char *)NULL);
        execl("/usr/sbin/mosquitto", "mosquitto", "-c", path, (char *)NULL);
        _exit(1);
    }
    for (int i = 0; i < 500 && !broker_answers(broker); i++) {
        assert_int_equal(waitpid(broker->pid, NULL, WNOHANG), 0);
        usleep(10000); // the broker has no way to tell
    }
    assert_true(broker_answers(broker));
}

static inline void broker_stop(struct broker *broker)
{
    if (broker->pid <= 0)
        return;
    kill(broker->pid, SIGTERM);
    waitpid(broker->pid, NULL, 0);
    broker->pid = 0;
}

static inline void broker_done(struct broker *broker)
{
    char command[128];
    broker_stop(broker);
    snprintf(command, sizeof(command), "rm -r -- '%s'", broker->directory);
    assert_int_equal(system(command), 0); // NOLINT(cert-env33-c)
}
