// SPDX-License-Identifier: LGPL-2.1-or-later
// The shim's state, shared between processes by a file, and the hand from outside that moves it. An
// edge goes straight into the holder's descriptor, a pipe that /proc opens a second time.
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/gpio.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS_MAX = 16 }; // that the kernel keeps of one line

struct shim_fd shim_fds[SHIM_FDS];
static struct gpioshim_world *world;

static int map_world(int fd, int flags)
{
    void *memory = mmap(NULL, sizeof(*world), PROT_READ | PROT_WRITE, MAP_SHARED | flags, fd, 0);
    if (fd >= 0)
        close(fd);
    if (memory == MAP_FAILED)
        return -1;
    if (world)
        munmap(world, sizeof(*world));
    world = memory;
    return 0;
}

int gpioshim_create(const char *path)
{
    if (!path)
        return map_world(-1, MAP_ANONYMOUS);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, sizeof(*world)) < 0 || map_world(fd, 0) < 0)
        return -1;
    snprintf(world->path, sizeof(world->path), "%s", path);
    return 0;
}

int gpioshim_attach(const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    return fd < 0 ? -1 : map_world(fd, 0);
}

struct gpioshim_world *shim_world(void)
{
    static bool tried;
    const char *path = world || tried ? NULL : getenv("GPIOSHIM");
    tried = true; // first: opening the file comes here again
    if (path)
        gpioshim_attach(path);
    return world;
}

int gpioshim_add_chip(const char *label, const char *lines)
{
    struct gpioshim_chip *chip = &world->chips[world->n_chips];
    snprintf(chip->label, sizeof(chip->label), "%s", label);
    char *names = strdup(lines);
    char *rest = NULL;
    for (char *name = strtok_r(names, " ", &rest); name; name = strtok_r(NULL, " ", &rest))
        if (chip->n_lines < GPIOSHIM_LINES)
            snprintf(chip->lines[chip->n_lines++].name, sizeof(chip->lines[0].name), "%s",
                     strcmp(name, "-") != 0 ? name : "");
    free(names);
    chip->present = 1;
    return world->n_chips++;
}

struct gpioshim_chip *gpioshim_chip(int chip)
{
    return &world->chips[chip];
}

struct gpioshim_line *gpioshim_line(int chip, int line)
{
    return &world->chips[chip].lines[line];
}

int gpioshim_level(int chip, int line)
{
    return gpioshim_line(chip, line)->level;
}

int gpioshim_is_held(int chip, int line)
{
    return shim_is_held(gpioshim_line(chip, line));
}

int gpioshim_requests(int chip, int line)
{
    return (int)gpioshim_line(chip, line)->n_requests;
}

int gpioshim_changes(int chip, int line)
{
    return (int)gpioshim_line(chip, line)->n_changes;
}

static void fifo_path(int chip, int line, char path[300])
{
    snprintf(path, 300, "%s.%d.%d", world->path, chip, line);
}

/* The lock is the open descriptor's: every copy of it keeps it, wherever that is. */
static bool is_locked(const struct gpioshim_line *line)
{
    char path[300];
    for (int chip = 0; chip < GPIOSHIM_CHIPS; chip++)
        if (line >= world->chips[chip].lines && line < world->chips[chip].lines + GPIOSHIM_LINES)
            fifo_path(chip, (int)(line - world->chips[chip].lines), path);
    int fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return false;
    bool locked = flock(fd, LOCK_EX | LOCK_NB) < 0;
    close(fd);
    return locked;
}

bool shim_is_held(const struct gpioshim_line *line)
{
    if (world->path[0])
        return is_locked(line);
    return line->holder > 0 && (kill(line->holder, 0) == 0 || errno == EPERM);
}

int shim_close_line(int fd)
{
    struct gpioshim_line *line = gpioshim_line(shim_fds[fd].chip, shim_fds[fd].line);
    shim_fds[fd] = (struct shim_fd){ 0 };
    int r = close(fd);
    line->holder = 0;
    if (shim_is_held(line))
        return r;
    line->flags = 0;
    line->debounce_usec = 0;
    line->consumer[0] = '\0';
    return r;
}

bool shim_recognise(int fd)
{
    struct stat status;
    if (!shim_world() || !world->path[0] || fstat(fd, &status) < 0 || !S_ISFIFO(status.st_mode))
        return false;
    for (int chip = 0; chip < world->n_chips; chip++)
        for (int line = 0; line < (int)world->chips[chip].n_lines; line++)
            if (world->chips[chip].lines[line].inode == status.st_ino) {
                shim_fds[fd] = (struct shim_fd){ SHIM_LINE, chip, line };
                return true;
            }
    return false;
}

/* Opens a pipe again, for reading and writing: no descriptor but that one, and never a hang-up. */
static int open_pipe(int pid, int fd)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, fd);
    return open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
}

/* A line's FIFO in a world with a file, locked. */
static int open_fifo(int chip, int line)
{
    char path[300];
    struct stat status;
    fifo_path(chip, line, path);
    if (mkfifo(path, 0600) < 0 && errno != EEXIST)
        return -1;
    int fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0 && (flock(fd, LOCK_EX | LOCK_NB) < 0 || fstat(fd, &status) < 0)) {
        close(fd);
        return -1;
    }
    if (fd >= 0)
        gpioshim_line(chip, line)->inode = status.st_ino;
    return fd;
}

static int open_new_pipe(void)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -1;
    int fd = open_pipe(getpid(), ends[0]);
    close(ends[0]);
    close(ends[1]);
    return fd;
}

int shim_new_line_fd(int chip, int line)
{
    int fd = world->path[0] ? open_fifo(chip, line) : open_new_pipe();
    if (fd < 0 || fd >= SHIM_FDS)
        return -1;
    fcntl(fd, F_SETFL, 0); // as the kernel hands it out: reads wait
    shim_fds[fd] = (struct shim_fd){ .kind = SHIM_LINE, .chip = chip, .line = line };
    return fd;
}

/* Keeps 16 events as the kernel does: version 1 drops the newest, version 2 the oldest. */
static void put_event(const struct gpioshim_line *line, const void *event, size_t size)
{
    int fd = open_pipe(line->holder, line->holder_fd);
    if (fd < 0)
        return;
    char oldest[sizeof(struct gpio_v2_line_event)];
    int waiting = 0;
    bool full = ioctl(fd, FIONREAD, &waiting) == 0 && (size_t)waiting >= EVENTS_MAX * size;
    if (full && line->version == 2 && read(fd, oldest, size) == (ssize_t)size)
        full = false;
    if (!full && write(fd, event, size) < 0)
        perror("gpioshim");
    close(fd);
}

void gpioshim_set(int chip, int number, int level)
{
    struct gpioshim_line *line = gpioshim_line(chip, number);
    if (line->output || line->level == level)
        return;
    line->level = level;
    bool rising = level != ((line->flags & GPIO_V2_LINE_FLAG_ACTIVE_LOW) != 0);
    uint64_t wanted = rising ? GPIO_V2_LINE_FLAG_EDGE_RISING : GPIO_V2_LINE_FLAG_EDGE_FALLING;
    if (!shim_is_held(line) || !(line->flags & wanted))
        return;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t now_nsec = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
    if (line->version == 1) {
        const struct gpioevent_data event = {
            .timestamp = now_nsec,
            .id = rising ? GPIOEVENT_EVENT_RISING_EDGE : GPIOEVENT_EVENT_FALLING_EDGE,
        };
        put_event(line, &event, sizeof(event));
        return;
    }
    line->seqno++;
    const struct gpio_v2_line_event event = {
        .timestamp_ns = now_nsec,
        .id = rising ? GPIO_V2_LINE_EVENT_RISING_EDGE : GPIO_V2_LINE_EVENT_FALLING_EDGE,
        .offset = (uint32_t)number,
        .seqno = line->seqno,
        .line_seqno = line->seqno,
    };
    put_event(line, &event, sizeof(event));
}

void gpioshim_remove(int chip)
{
    struct gpioshim_chip *gone = gpioshim_chip(chip);
    gone->present = 0;
    for (uint32_t i = 0; i < gone->n_lines; i++)
        if (shim_is_held(&gone->lines[i]))
            put_event(&gone->lines[i], "", 1); // a reader wakes up, and finds no chip
}
