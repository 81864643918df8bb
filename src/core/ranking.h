// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Numbers in order, with the order's statistics always at hand: the k-th, the sum, the standard
 * deviation. A weight-balanced tree of nodes that the caller embeds; each node knows the sums of
 * its subtree, computed anew from its children on every change, so that nothing drifts however many
 * numbers come and go. Adding and removing take O(log n), everything else O(1) or O(log n). Pure,
 * without allocation.
 *
 *     struct ranking ranking = { 0 };
 *     ranking_add(&ranking, &node, 21.5);   // the node stays where it is until ranking_remove()
 */
#pragma once

#include <stddef.h>

struct ranking_node {
    struct ranking_node *left, *right;
    size_t size;           // nodes in the subtree, this one too
    double value;          // finite
    double sum, deviation; // of the subtree; deviation: the squared distances from its mean
};

struct ranking {
    struct ranking_node *root; // NULL: empty
};

/* node is in no ranking; equal numbers are fine. */
void ranking_add(struct ranking *ranking, struct ranking_node *node, double value);

/* node is in this ranking. */
void ranking_remove(struct ranking *ranking, struct ranking_node *node);

size_t ranking_count(const struct ranking *ranking);

/* The i-th smallest, from 0 to ranking_count() - 1. */
double ranking_nth(const struct ranking *ranking, size_t i);

/* The middle one, of an even count the mean of both. Not of an empty one. */
double ranking_median(const struct ranking *ranking);

/* 0 when empty; may be infinite. */
double ranking_sum(const struct ranking *ranking);

/* Of the whole population (divided by n); 0 when empty; may be infinite. */
double ranking_stddev(const struct ranking *ranking);
