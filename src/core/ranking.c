// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Numbers in order; see ranking.h. A weight-balanced tree with the parameters 3 and 2, which are
 * proven to keep the balance (Hirai and Yamamoto, Balancing weight-balanced trees, 2011); its depth
 * bounds the recursion here. Sums are combined as by Chan, Golub and LeVeque (1979).
 */
#include "core/ranking.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>

enum { DELTA = 3, GAMMA = 2 };

static size_t size_of(const struct ranking_node *node)
{
    return node ? node->size : 0;
}

static size_t weight_of(const struct ranking_node *node)
{
    return size_of(node) + 1;
}

/* Takes part's sums into node's. */
static void absorb(struct ranking_node *node, const struct ranking_node *part)
{
    if (!part)
        return;
    double n = (double)node->size, m = (double)part->size;
    double distance = part->sum / m - node->sum / n;
    node->deviation += part->deviation + distance * distance * (n * m / (n + m));
    node->sum += part->sum;
    node->size += part->size;
}

static void refresh(struct ranking_node *node)
{
    node->size = 1;
    node->sum = node->value;
    node->deviation = 0;
    absorb(node, node->left);
    absorb(node, node->right);
}

static struct ranking_node *rotate_left(struct ranking_node *node)
{
    struct ranking_node *top = node->right;
    node->right = top->left;
    top->left = node;
    refresh(node);
    return top;
}

static struct ranking_node *rotate_right(struct ranking_node *node)
{
    struct ranking_node *top = node->left;
    node->left = top->right;
    top->right = node;
    refresh(node);
    return top;
}

/* The balanced tree of node, one of whose sides has just changed by one. */
static struct ranking_node *balance(struct ranking_node *node)
{
    struct ranking_node *left = node->left, *right = node->right;
    if (weight_of(right) > DELTA * weight_of(left)) {
        if (weight_of(right->left) >= GAMMA * weight_of(right->right))
            node->right = rotate_right(right);
        node = rotate_left(node);
    } else if (weight_of(left) > DELTA * weight_of(right)) {
        if (weight_of(left->right) >= GAMMA * weight_of(left->left))
            node->left = rotate_left(left);
        node = rotate_right(node);
    }
    refresh(node);
    return node;
}

/* Equal numbers are told apart by where their nodes are, so that each is found again. */
static bool is_before(const struct ranking_node *a, const struct ranking_node *b)
{
    if (a->value != b->value)
        return a->value < b->value;
    return (uintptr_t)a < (uintptr_t)b;
}

// NOLINTNEXTLINE(misc-no-recursion): as deep as a balanced tree
static struct ranking_node *insert(struct ranking_node *root, struct ranking_node *node)
{
    if (!root)
        return node;
    if (is_before(node, root))
        root->left = insert(root->left, node);
    else
        root->right = insert(root->right, node);
    return balance(root);
}

// NOLINTNEXTLINE(misc-no-recursion): as deep as a balanced tree
static struct ranking_node *take_first(struct ranking_node *root, struct ranking_node **ret_first)
{
    if (!root->left) {
        *ret_first = root;
        return root->right;
    }
    root->left = take_first(root->left, ret_first);
    return balance(root);
}

static struct ranking_node *join(struct ranking_node *left, struct ranking_node *right)
{
    if (!left || !right)
        return left ? left : right;
    struct ranking_node *middle = NULL;
    right = take_first(right, &middle);
    middle->left = left;
    middle->right = right;
    return balance(middle);
}

// NOLINTNEXTLINE(misc-no-recursion): as deep as a balanced tree
static struct ranking_node *without(struct ranking_node *root, const struct ranking_node *node)
{
    assert(root);
    if (root == node)
        return join(root->left, root->right);
    if (is_before(node, root))
        root->left = without(root->left, node);
    else
        root->right = without(root->right, node);
    return balance(root);
}

void ranking_add(struct ranking *ranking, struct ranking_node *node, double value)
{
    *node = (struct ranking_node){ .value = value };
    refresh(node);
    ranking->root = insert(ranking->root, node);
}

void ranking_remove(struct ranking *ranking, struct ranking_node *node)
{
    ranking->root = without(ranking->root, node);
}

size_t ranking_count(const struct ranking *ranking)
{
    return size_of(ranking->root);
}

double ranking_nth(const struct ranking *ranking, size_t i)
{
    const struct ranking_node *node = ranking->root;
    assert(i < size_of(node));
    while (i != size_of(node->left)) {
        if (i < size_of(node->left)) {
            node = node->left;
        } else {
            i -= size_of(node->left) + 1;
            node = node->right;
        }
    }
    return node->value;
}

double ranking_median(const struct ranking *ranking)
{
    size_t n = ranking_count(ranking);
    double upper = ranking_nth(ranking, n / 2);
    return n % 2 ? upper : ranking_nth(ranking, n / 2 - 1) / 2 + upper / 2;
}

double ranking_sum(const struct ranking *ranking)
{
    return ranking->root ? ranking->root->sum : 0;
}

double ranking_stddev(const struct ranking *ranking)
{
    return ranking->root ? sqrt(ranking->root->deviation / (double)ranking->root->size) : 0;
}
