// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * GPIO chips that are not there, for tests on machines without any: a library that answers for
 * /dev/gpiochipN in the kernel's place, by version 1 (libgpiod 1) and 2 (libgpiod 2) of its
 * interface. A test program links it, or a daemon runs with LD_PRELOAD=libgpioshim.so and
 * GPIOSHIM=FILE while a test moves its lines through the same FILE (from Python: by ctypes).
 *
 *     gpioshim_create(NULL);                                // or FILE
 *     int chip = gpioshim_add_chip("bank", "LED BUTTON -"); // three lines, the last without a name
 *     gpioshim_set(chip, 1, 1);                             // a hand on the button
 *     gpioshim_line(chip, 0)->level;                        // what the LED is driven to
 *
 * Levels are physical. What the kernel does and this does not: debounce (it is noted only), bias,
 * several lines in a request, watching a line's information. A released line keeps direction and
 * level. In a world with a FILE a line is held for as long as some process, on whatever way it came
 * by it, has its descriptor: a FIFO beside FILE with a lock on it. Where libasan is preloaded, it
 * comes first.
 */
#pragma once

#include <stdint.h>

enum { GPIOSHIM_CHIPS = 4, GPIOSHIM_LINES = 16 };

struct gpioshim_line {
    char name[32];
    char consumer[32]; // "" when nobody holds it
    int32_t level;
    int32_t output;
    uint64_t flags;         // as it was requested, GPIO_V2_LINE_FLAG_*
    uint32_t debounce_usec; // asked of the kernel
    int32_t refusal;        // errno for whoever requests it; 0
    int32_t holder;         // process, and its descriptor of the line
    int32_t holder_fd;
    int32_t version; // of the interface that it was requested by
    uint32_t n_requests;
    uint32_t n_changes; // of level or direction, by whoever held it
    uint64_t inode;     // of the descriptor's FIFO
    uint32_t seqno;
};

struct gpioshim_chip {
    char label[32];
    int32_t present;
    int32_t refusal; // errno for whoever opens it; 0
    uint32_t n_lines;
    struct gpioshim_line lines[GPIOSHIM_LINES];
};

struct gpioshim_world {
    char path[256]; // "": memory
    int32_t n_chips;
    struct gpioshim_chip chips[GPIOSHIM_CHIPS];
};

/* A world without chips: a file that other processes can attach to, or memory (NULL). 0 or -1. */
int gpioshim_create(const char *path);

/* Takes up the world of another process. 0 or -1. */
int gpioshim_attach(const char *path);

/* Adds a chip with the lines' names, "-" for none; returns N of /dev/gpiochipN. */
int gpioshim_add_chip(const char *label, const char *lines);

/* Sets the level of an input from outside; who asked for this edge gets it. */
void gpioshim_set(int chip, int line, int level);

/* Pulls the chip out: those who hold its lines wake up to ENODEV. */
void gpioshim_remove(int chip);

struct gpioshim_chip *gpioshim_chip(int chip);
struct gpioshim_line *gpioshim_line(int chip, int line);

/* From Python, where structures are a nuisance. */
int gpioshim_level(int chip, int line);
int gpioshim_is_held(int chip, int line);
int gpioshim_requests(int chip, int line);
int gpioshim_changes(int chip, int line);
