/* A pass of a Llama or Qwen2 decoder over tokens that have nothing in common but the weights, in float32 on one core.

   `spo.policy.compiled` compiles this for a geometry: HEAD_SIZE, and GROUP query heads to a key head. Matrices come as
   panels of PANEL columns, (panels, inputs, PANEL), filled up with zeros; rows of all arrays are filled up alike. Keys
   and values lie in pages of PAGE tokens: a page has all layers, a layer all key heads, and a head its keys as
   (HEAD_SIZE, PAGE), so that one instruction meets a query with neighbouring tokens, then its values as (PAGE, WIDTH),
   so that one adds up neighbouring numbers. A row reads a list of pages, the first `count` tokens of each; its own token
   is the last. Every sum has an order of its own, so that a row's bits do not depend on the batch that it is in. */
#include "vectors.h"

#define PAGE 16
#define BLOCK 96 /* rows whose activations stay near the core */
#define WIDTH UP(HEAD_SIZE, PAGE)
#define FITS(vecs) (WIDTH % ((vecs) * LANES) == 0 && GROUP * (vecs) <= SUMS)
#define SPAN (LANES * (FITS(4) ? 4 : FITS(2) ? 2 : 1)) /* numbers of a value that are added up at once */
#define HEAD_FLOATS (PAGE * (HEAD_SIZE + WIDTH))

const int64_t panel_columns = PANEL;

typedef struct {
    const float *qkv, *bias, *out, *gate_up, *down; /* of a panel of gate_up the first half is gate, the other up */
} Layer;

typedef struct {
    int64_t layers, kv_heads, hidden_size, intermediate_size, vocabulary_size;
    const Layer *layer;
    const float *embedding, *head; /* embedding (vocabulary, hidden_size), no panels */
    const float *cosines, *sines;  /* (positions, HEAD_SIZE / 2) */
    float *hidden, *qkv;           /* room for all rows of a batch */
    float *attended, *gated;       /* room for BLOCK rows */
    float square;                  /* hidden_size x epsilon; the weights contain what else a norm multiplies with */
} Model;

typedef struct {
    int64_t rows, table_width, slab_shift, page_floats;
    float *const *slabs; /* page p is number p % 2**slab_shift of slab p >> slab_shift */
    const int32_t *pages, *counts, *used; /* (rows, table_width) twice, (rows) */
    const int64_t *tokens, *positions;    /* (rows) */
    float *scores;                        /* room for (table_width + 1) x GROUP x PAGE */
} Batch;

/* One number a row: what a root mean square norm multiplies it with. */
static void norms(const float *x, int64_t rows, int64_t size, float square, float *scale) {
    for (int64_t n = 0; n < rows; n++, x += UP(size, PANEL)) {
        float total = square;
#pragma omp simd reduction(+ : total)
        for (int64_t i = 0; i < size; i++) total += x[i] * x[i];
        scale[n] = 1.0f / sqrtf(total);
    }
}

INLINE float *page_of(const Batch *b, int64_t entry, int64_t offset) {
    int64_t page = b->pages[entry], within = page & (((int64_t)1 << b->slab_shift) - 1);
    return b->slabs[page >> b->slab_shift] + within * b->page_floats + offset;
}

/* Turn the queries and keys of a row, (heads + 2 kv_heads) x HEAD_SIZE, and put keys and values where its list ends. */
static void place(const Model *m, const Batch *b, int64_t layer, int64_t n, float *row) {
    const int64_t heads = m->kv_heads * GROUP, entry = n * b->table_width + b->used[n] - 1, slot = b->counts[entry] - 1;
    const float *cosine = m->cosines + b->positions[n] * (HEAD_SIZE / 2);
    const float *sine = m->sines + b->positions[n] * (HEAD_SIZE / 2);
    for (float *x = row; x < row + (heads + m->kv_heads) * HEAD_SIZE; x += HEAD_SIZE)
        for (int i = 0; i < HEAD_SIZE / 2; i++) {
            const float one = x[i], two = x[i + HEAD_SIZE / 2];
            x[i] = one * cosine[i] - two * sine[i];
            x[i + HEAD_SIZE / 2] = two * cosine[i] + one * sine[i];
        }
    for (int64_t g = 0; g < m->kv_heads; g++) {
        float *page = page_of(b, entry, (layer * m->kv_heads + g) * HEAD_FLOATS);
        const float *key = row + (heads + g) * HEAD_SIZE;
        for (int e = 0; e < HEAD_SIZE; e++) page[e * PAGE + slot] = key[e];
        memcpy(page + PAGE * HEAD_SIZE + slot * WIDTH, key + m->kv_heads * HEAD_SIZE, sizeof(float) * HEAD_SIZE);
    }
}

/* out (GROUP, HEAD_SIZE): attention of q (GROUP, HEAD_SIZE) over what row n reads; `offset` is where in a page. */
static void attend(const Batch *b, int64_t offset, int64_t n, const float *q, float *out) {
    static const int32_t numbers[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const vec zero = {0}, never = zero - INFINITY;
    const int64_t first = n * b->table_width, used = b->used[n];
    ivec lane;
    vec top[GROUP];
    memcpy(&lane, numbers, sizeof lane);
    EACH(int h = 0; h < GROUP; h++) top[h] = never;
    float *score = b->scores;
    for (int64_t p = 0; p < used; p += 2, score += 2 * GROUP * PAGE) {
        /* Two pages at once, so that a number of a query is read half as often; a single last one is its own partner. */
        const int64_t here = first + p, there = here + (p + 1 < used);
        const float *keys = page_of(b, here, offset), *more = page_of(b, there, offset);
        for (int64_t i = here; n + 1 < b->rows && i <= there; i++) /* what the next row reads elsewhere is asked for */
            if (b->counts[i + b->table_width] && b->pages[i + b->table_width] != b->pages[i])
                for (int64_t at = 0; at < HEAD_FLOATS; at += 16)
                    __builtin_prefetch(page_of(b, i + b->table_width, offset + at));
        for (int s = 0; s < PAGE; s += LANES) {
            vec one[GROUP], two[GROUP];
            EACH(int h = 0; h < GROUP; h++) one[h] = two[h] = zero;
            for (int e = 0; e < HEAD_SIZE; e++) {
                vec x = load(keys + e * PAGE + s), y = load(more + e * PAGE + s);
                KEEP(x);
                KEEP(y);
                EACH(int h = 0; h < GROUP; h++) {
                    one[h] += q[h * HEAD_SIZE + e] * x;
                    two[h] += q[h * HEAD_SIZE + e] * y;
                }
            }
            const ivec inside = lane + s < b->counts[here], within = lane + s < b->counts[there];
            EACH(int h = 0; h < GROUP; h++) {
                one[h] = pick(inside, one[h], never);
                two[h] = pick(within, two[h], never);
                top[h] = larger(top[h], larger(one[h], two[h]));
                store(score + h * PAGE + s, one[h]);
                store(score + (GROUP + h) * PAGE + s, two[h]);
            }
        }
    }
    EACH(int h = 0; h < GROUP; h++) top[h] = zero + highest(top[h]);
    score = b->scores;
    for (int64_t p = 0; p < used; p++, score += GROUP * PAGE)
        EACH(int h = 0; h < GROUP; h++) for (int s = 0; s < PAGE; s += LANES)
            store(score + h * PAGE + s, exponential(load(score + h * PAGE + s) - top[h]));
    for (int c = 0; c < WIDTH; c += SPAN) {
        vec mixed[GROUP][SPAN / LANES];
        float total[GROUP]; /* in the order of tokens, wherever their pages are: a row's bits depend on nothing else */
        EACH(int h = 0; h < GROUP; h++) {
            total[h] = 0;
            EACH(int i = 0; i < SPAN / LANES; i++) mixed[h][i] = zero;
        }
        score = b->scores;
        for (int64_t p = 0; p < used; p++, score += GROUP * PAGE) {
            const float *values = page_of(b, first + p, offset + PAGE * HEAD_SIZE + c);
            for (int t = 0; t < b->counts[first + p]; t++) {
                EACH(int h = 0; h < GROUP; h++) total[h] += score[h * PAGE + t];
                EACH(int i = 0; i < SPAN / LANES; i++) {
                    vec value = load(values + t * WIDTH + i * LANES);
                    KEEP(value);
                    EACH(int h = 0; h < GROUP; h++) mixed[h][i] += score[h * PAGE + t] * value;
                }
            }
        }
        EACH(int h = 0; h < GROUP; h++) {
            const float share = 1.0f / total[h];
            float found[SPAN];
            EACH(int i = 0; i < SPAN / LANES; i++) store(found + i * LANES, mixed[h][i] * share);
            memcpy(out + h * HEAD_SIZE + c, found, sizeof(float) * (HEAD_SIZE - c < SPAN ? HEAD_SIZE - c : SPAN));
        }
    }
}

/* logits (rows, vocabulary) after the tokens of a batch, unless NULL; keys and values go into the pages. All is put there
   before any of it is read, so that rows may be successive tokens of one prompt. */
void compute(const Model *m, const Batch *b, float *logits) {
    const int64_t size = m->hidden_size, inner = m->intermediate_size, heads = m->kv_heads * GROUP;
    const int64_t asked = heads * HEAD_SIZE, joint = asked + 2 * m->kv_heads * HEAD_SIZE, words = m->vocabulary_size;
    const int64_t wide = UP(size, PANEL), joint_wide = UP(joint, PANEL), asked_wide = UP(asked, PANEL);
    float scale[BLOCK];
    for (int64_t n = 0; n < b->rows; n++) {
        memset(m->hidden + n * wide, 0, sizeof(float) * wide);
        memcpy(m->hidden + n * wide, m->embedding + b->tokens[n] * size, sizeof(float) * size);
    }
#define BLOCKS for (int64_t at = 0, rows; rows = b->rows - at < BLOCK ? b->rows - at : BLOCK, at < b->rows; at += BLOCK)
    for (int64_t l = 0; l < m->layers; l++) {
        const Layer *layer = m->layer + l;
        BLOCKS {
            float *hidden = m->hidden + at * wide, *qkv = m->qkv + at * joint_wide;
            norms(hidden, rows, size, m->square, scale);
            product(SCALED, rows, hidden, wide, layer->qkv, size, joint, scale, layer->bias, qkv, joint_wide);
            for (int64_t n = 0; n < rows; n++) place(m, b, l, at + n, qkv + n * joint_wide);
        }
        BLOCKS {
            float *hidden = m->hidden + at * wide;
            for (int64_t n = 0; n < rows; n++)
                for (int64_t g = 0; g < m->kv_heads; g++)
                    attend(b, (l * m->kv_heads + g) * HEAD_FLOATS, at + n,
                           m->qkv + (at + n) * joint_wide + g * GROUP * HEAD_SIZE,
                           m->attended + n * asked_wide + g * GROUP * HEAD_SIZE);
            product(ADDED, rows, m->attended, asked_wide, layer->out, asked, size, NULL, NULL, hidden, wide);
            norms(hidden, rows, size, m->square, scale);
            product(GATED, rows, hidden, wide, layer->gate_up, size, 2 * UP(inner, PANEL / 2), scale, NULL, m->gated,
                    UP(inner, PANEL));
            product(ADDED, rows, m->gated, UP(inner, PANEL), layer->down, inner, size, NULL, NULL, hidden, wide);
        }
    }
    if (logits) BLOCKS {
        norms(m->hidden + at * wide, rows, size, m->square, scale);
        product(SCALED, rows, m->hidden + at * wide, wide, m->head, size, words, scale, NULL,
                logits + at * UP(words, PANEL), UP(words, PANEL));
    }
}

/* As `spo.policy.sampling.choose` without a nucleus: ids and their log-probabilities (rows) for `uniform` (rows); the most
   probable at temperature 0. The log-probability is NaN if a logit is not finite. Writes over the logits, (rows, words)
   filled up to panels. */
void draw(float *logits, int64_t rows, int64_t words, float temperature, const double *uniform, int64_t *ids,
          float *logprobs) {
    const float colder = temperature > 0 ? 1.0f / temperature : 1.0f;
    for (int64_t n = 0; n < rows; n++, logits += UP(words, PANEL)) {
        float top = -INFINITY, nothing = 0; /* stays 0 unless a logit is NaN or infinite */
        double total = 0, left;
        int64_t found = 0;
        for (int64_t i = words; i < UP(words, PANEL); i++) logits[i] = -INFINITY;
#pragma omp simd reduction(max : top) reduction(+ : nothing)
        for (int64_t i = 0; i < words; i++) {
            top = logits[i] > top ? logits[i] : top;
            nothing += logits[i] * 0.0f;
        }
        if (temperature == 0)
            while (found < words - 1 && logits[found] < top) found++;
        for (int64_t i = 0; i < words; i += LANES) store(logits + i, exponential((load(logits + i) - top) * colder));
#pragma omp simd reduction(+ : total)
        for (int64_t i = 0; i < words; i++) total += logits[i];
        if (temperature > 0) {
            left = uniform[n] * total - logits[0];
            while (left >= 0 && found < words - 1) left -= logits[++found];
        }
        ids[n] = found;
        logprobs[n] = nothing == 0 ? (float)log(logits[found] / total) : NAN;
    }
}
