/* The compiled twin of `PlainReader` in reader.py: the same sums of a prompt's features, to the bit. That one is the specification;
   tests/policy/test_reader.py holds the two together.

   Facts
       A busy process finds its caches cold. What costs is then not arithmetic but each line of memory that is touched.

   Plan
       One table for all groups: slots of eight bytes, addressed by a hash, that say where in an arena a feature lies; there its weights
       and its key stand side by side. Keys are compared whole, so a hash that collides costs time and no exactness. Lookups are done in
       batches, and memory is asked for before it is needed: slots when a hash is known, features when a slot has been found.

   The interpreter's lock is held throughout, and between `begin` and the last use of the scratch memory no Python code runs. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__GNUC__) || defined(__clang__)
#define PREFETCH(p) __builtin_prefetch(p)
#else
#define PREFETCH(p) ((void)0)
#endif

/* The groups of features.py, in its order; beginnings and ends of words are keys of their own here, but add up in A. */
enum { W, B, A, H, T, N, S, GROUPS, BEGINS = GROUPS, FINALS, KINDS };

/* As in features.py. */
enum { SEPARATOR = 0x1f, FIRST = 6, LAST = 4, CHARS = 400, SIZES = 64, COUNTS = 30 };

/* Lookups at once; weights that are added at once; bytes that are asked for in advance; bytes of scratch memory that are kept between
   two calls; characters of a text at most. */
enum { BATCH = 64, LANES = 16, AHEAD = 64, KEEP = 1 << 20, LONGEST = 1 << 20 };

typedef struct {
    uint32_t tag; /* the hash's upper half */
    uint32_t at;  /* one more than where the feature lies in the arena; 0 where nothing is */
} Slot;

typedef struct {
    uint64_t hash;
    const uint8_t *at; /* its bytes, UTF-8 */
    uint32_t size;
    uint32_t chars;
    int digits; /* it is a number */
} Token;

typedef struct {
    Token *words, *han;
    size_t n_words, n_han, n_numbers, n_ascii;
} Cut;

typedef struct {
    uint64_t hash;
    const Token *tokens; /* `n` of them, one after another; or, where n is 0, the bytes `one` */
    Token one;
    uint32_t slot;
    uint8_t kind, n, mark; /* mark: '^' before the tokens, '$' after them, or 0 */
} Lookup;

typedef struct {
    PyObject_HEAD
    Slot *slots;
    size_t mask; /* slots, a power of two, less one */
    uint8_t *arena; /* of each feature: `columns` weights, its kind, four bytes of its key's size, its key */
    size_t used, room;
    uint32_t counts[COUNTS * SIZES]; /* group N: where a feature lies plus one */
    size_t columns, stride; /* the latter in whole LANES */
    double units[GROUPS];
    double carry[3];
    uint8_t *scratch;
    size_t scratch_size;
} Reader;

typedef struct {
    Reader *reader;
    uint32_t *sums; /* (GROUPS, stride) */
    uint64_t known[GROUPS];
    uint8_t *seen; /* a bit for each slot */
    size_t n;
    Lookup batch[BATCH];
} Adding;

/* --- hashes --------------------------------------------------------------------------------------------------------- */

static inline uint64_t mixed(uint64_t h) {
    h ^= h >> 32;
    h *= UINT64_C(0xd6e8feb86659fd93);
    return h ^ (h >> 32);
}

static inline uint64_t piece(const uint8_t *p, size_t n) {
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * UINT64_C(0x100000001b3);
    return mixed(h);
}

static inline uint64_t with(uint64_t h, uint64_t piece) { return mixed((h ^ piece) * UINT64_C(0x9e3779b97f4a7c15)); }

static inline uint64_t kind_hash(int kind) { return UINT64_C(0x243f6a8885a308d3) * (uint64_t)(kind + 1); }

static uint64_t key_hash(int kind, const uint8_t *key, size_t size) {
    uint64_t h = kind_hash(kind);
    size_t begin = 0;
    for (size_t i = 0; i <= size; i++)
        if (i == size || key[i] == SEPARATOR) {
            h = with(h, piece(key + begin, i - begin));
            begin = i + 1;
        }
    return h;
}

/* --- the table ------------------------------------------------------------------------------------------------------ */

static inline const uint8_t *key_of(const Reader *r, uint32_t at, int *kind, uint32_t *size) {
    const uint8_t *p = r->arena + (at - 1) + r->columns;
    *kind = p[0];
    memcpy(size, p + 1, 4);
    return p + 5;
}

/* Puts a feature into the arena. Returns where, plus one; 0 with an exception where there is no room. */
static uint32_t stored(Reader *r, int kind, const uint8_t *key, size_t size, const uint8_t *weights, size_t row, size_t rows) {
    size_t need = r->columns + 5 + size;
    if (size > UINT32_MAX / 4 || r->used + need >= UINT32_MAX) {
        PyErr_SetString(PyExc_ValueError, "too many features");
        return 0;
    }
    if (r->used + need > r->room) {
        size_t room = (r->used + need) * 3 / 2 + 4096;
        uint8_t *arena = PyMem_Realloc(r->arena, room);
        if (arena == NULL) {
            PyErr_NoMemory();
            return 0;
        }
        r->arena = arena;
        r->room = room;
    }
    uint8_t *p = r->arena + r->used;
    for (size_t c = 0; c < r->columns; c++)
        p[c] = weights[c * rows + row];
    p += r->columns;
    uint32_t length = (uint32_t)size;
    p[0] = (uint8_t)kind;
    memcpy(p + 1, &length, 4);
    if (size)
        memcpy(p + 5, key, size);
    uint32_t at = (uint32_t)r->used + 1;
    r->used += need;
    return at;
}

/* Adds a key, or gives one that is there other weights. -1 with an exception. */
static int insert(Reader *r, int kind, const uint8_t *key, size_t size, const uint8_t *weights, size_t row, size_t rows) {
    uint64_t hash = key_hash(kind, key, size);
    size_t i = hash & r->mask;
    for (; r->slots[i].at; i = (i + 1) & r->mask) {
        int other;
        uint32_t length;
        const uint8_t *known = key_of(r, r->slots[i].at, &other, &length);
        if (r->slots[i].tag == (uint32_t)(hash >> 32) && other == kind && length == size && memcmp(known, key, size) == 0)
            break;
    }
    uint32_t at = stored(r, kind, key, size, weights, row, rows);
    if (at == 0)
        return -1;
    r->slots[i].tag = (uint32_t)(hash >> 32);
    r->slots[i].at = at;
    return 0;
}

static inline int token_is(const uint8_t **p, const uint8_t *end, const Token *token) {
    if ((size_t)(end - *p) < token->size || memcmp(*p, token->at, token->size) != 0)
        return 0;
    *p += token->size;
    return 1;
}

static inline int byte_is(const uint8_t **p, const uint8_t *end, uint8_t byte) {
    if (*p == end || **p != byte)
        return 0;
    (*p)++;
    return 1;
}

static int same(const Reader *r, uint32_t at, const Lookup *lookup) {
    int kind;
    uint32_t size;
    const uint8_t *p = key_of(r, at, &kind, &size), *end = p + size;
    if (kind != lookup->kind)
        return 0;
    if (lookup->n == 0)
        return token_is(&p, end, &lookup->one) && p == end;
    if (lookup->mark == '^' && !(byte_is(&p, end, '^') && byte_is(&p, end, SEPARATOR)))
        return 0;
    for (int i = 0; i < lookup->n; i++)
        if ((i && !byte_is(&p, end, SEPARATOR)) || !token_is(&p, end, lookup->tokens + i))
            return 0;
    if (lookup->mark == '$' && !(byte_is(&p, end, SEPARATOR) && byte_is(&p, end, '$')))
        return 0;
    return p == end;
}

/* --- adding up ------------------------------------------------------------------------------------------------------ */

static inline void add(Adding *a, int group, uint32_t at) {
    const uint8_t *weights = a->reader->arena + (at - 1);
    uint32_t *sums = a->sums + (size_t)group * a->reader->stride;
    for (size_t begin = 0; begin < a->reader->stride; begin += LANES) /* beyond the columns nothing is meant; the arena goes on there */
        for (size_t c = begin; c < begin + LANES; c++)
            sums[c] += weights[c];
    a->known[group]++;
}

static void flush(Adding *a) {
    const Reader *r = a->reader;
    size_t kept = 0;
    for (size_t i = 0; i < a->n; i++) {
        Lookup *lookup = &a->batch[i];
        size_t slot = lookup->slot;
        while (r->slots[slot].at && r->slots[slot].tag != (uint32_t)(lookup->hash >> 32))
            slot = (slot + 1) & r->mask;
        if (r->slots[slot].at) {
            PREFETCH(r->arena + (r->slots[slot].at - 1));
            PREFETCH(r->arena + (r->slots[slot].at - 1) + AHEAD - 1); /* it may lie across two lines of memory */
            a->batch[kept] = *lookup;
            a->batch[kept++].slot = (uint32_t)slot;
        }
    }
    for (size_t i = 0; i < kept; i++) {
        const Lookup *lookup = &a->batch[i];
        size_t slot = lookup->slot;
        for (; r->slots[slot].at; slot = (slot + 1) & r->mask)
            if (r->slots[slot].tag == (uint32_t)(lookup->hash >> 32) && same(r, r->slots[slot].at, lookup))
                break;
        if (r->slots[slot].at == 0)
            continue;
        int group = lookup->kind >= GROUPS ? A : lookup->kind;
        if (group == W || group == B || group == S) { /* these count once, however often they are there */
            uint8_t bit = (uint8_t)(1u << (slot & 7));
            if (a->seen[slot >> 3] & bit)
                continue;
            a->seen[slot >> 3] |= bit;
        }
        add(a, group, r->slots[slot].at);
    }
    a->n = 0;
}

static inline Lookup *pushed(Adding *a, int kind, uint64_t hash) {
    if (a->n == BATCH)
        flush(a);
    Lookup *lookup = &a->batch[a->n++];
    size_t slot = hash & a->reader->mask;
    PREFETCH(&a->reader->slots[slot]);
    lookup->hash = hash;
    lookup->slot = (uint32_t)slot;
    lookup->kind = (uint8_t)kind;
    lookup->n = 0;
    lookup->mark = 0;
    return lookup;
}

static inline void push_one(Adding *a, int kind, const Token *token) {
    pushed(a, kind, with(kind_hash(kind), token->hash))->one = *token;
}

static inline void push_bytes(Adding *a, int kind, const uint8_t *at, size_t size) {
    Token token = {piece(at, size), at, (uint32_t)size, 0, 0};
    push_one(a, kind, &token);
}

static inline void push_many(Adding *a, int kind, const Token *tokens, int n, char mark) {
    const uint8_t caret = '^', dollar = '$';
    uint64_t hash = kind_hash(kind);
    if (mark == '^')
        hash = with(hash, piece(&caret, 1));
    for (int i = 0; i < n; i++)
        hash = with(hash, tokens[i].hash);
    if (mark == '$')
        hash = with(hash, piece(&dollar, 1));
    Lookup *lookup = pushed(a, kind, hash);
    lookup->tokens = tokens;
    lookup->n = (uint8_t)n;
    lookup->mark = (uint8_t)mark;
}

static size_t skipped(const uint8_t *p, size_t chars) {
    size_t i = 0;
    while (chars--)
        i += p[i] < 0x80 ? 1 : p[i] < 0xe0 ? 2 : p[i] < 0xf0 ? 3 : 4;
    return i;
}

static void push_ends(Adding *a, const Token *word) {
    static const char numbers[] = "#0#1#2#3#4#5#6#7#8#9";
    if (word->digits) {
        size_t size = word->chars < 9 ? word->chars : 9;
        push_bytes(a, A, (const uint8_t *)numbers + 2 * size, 2);
    } else if (word->chars > 4) {
        size_t begin = word->size == word->chars ? 4 : skipped(word->at, 4);
        size_t final = word->size == word->chars ? word->size - 3 : skipped(word->at, word->chars - 3);
        push_bytes(a, BEGINS, word->at, begin);
        push_bytes(a, FINALS, word->at + final, word->size - final);
    }
}

static void push_words(Adding *a, const Cut *cut) {
    for (size_t i = 0; i < cut->n_words; i++) {
        push_one(a, W, &cut->words[i]);
        push_ends(a, &cut->words[i]);
        if (i + 1 < cut->n_words)
            push_many(a, B, &cut->words[i], 2, 0);
    }
    for (size_t i = 0; i < cut->n_han; i++) {
        push_one(a, W, &cut->han[i]);
        if (i + 1 < cut->n_han)
            push_many(a, B, &cut->han[i], 2, 0);
    }
}

static void push_first_and_last(Adding *a, const Cut *cut) {
    const Token *words = cut->n_words ? cut->words : cut->han;
    size_t n = cut->n_words ? cut->n_words : cut->n_han < FIRST ? cut->n_han : FIRST;
    for (size_t i = 0; i < n && i < FIRST; i++)
        push_one(a, H, &words[i]);
    for (int i = 1; i <= 3 && (size_t)i <= n; i++)
        push_many(a, H, words, i, '^');
    if (cut->n_words > 1) {
        words = cut->words;
        n = cut->n_words;
    } else {
        n = cut->n_han < LAST ? cut->n_han : LAST;
        words = cut->han + (cut->n_han - n);
    }
    if (n > 1) {
        for (size_t i = n < LAST ? 0 : n - LAST; i < n; i++)
            push_one(a, T, &words[i]);
        push_many(a, T, words + n - 2, 2, '$');
    }
}

/* --- cutting -------------------------------------------------------------------------------------------------------- */

enum { SPACE = 1, LINE, LETTER, DIGIT, MARK, HAN };

/* Classes of ASCII in an ASCII text, once it is in small letters. */
static uint8_t ascii_classes[128];

static void make_classes(void) {
    for (uint32_t c = 0; c < 128; c++)
        ascii_classes[c] = c >= 'a' && c <= 'z'   ? LETTER
                           : c >= '0' && c <= '9' ? DIGIT
                           : c == '\n'            ? LINE
                           : Py_UNICODE_ISSPACE(c) ? SPACE
                                                   : MARK;
}

static int other_class(uint32_t c) {
    if (c >= '0' && c <= '9')
        return DIGIT;
    if (c == '\n')
        return LINE;
    if ((c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') || (c >= '{' && c <= '~') || (c >= 0xa1 && c <= 0xbf) ||
        (c >= 0x2010 && c <= 0x205e) || (c >= 0x3000 && c <= 0x303f) || (c >= 0xff00 && c <= 0xff65))
        return MARK;
    if ((c >= 0x3040 && c <= 0x30ff) || (c >= 0x3400 && c <= 0x9fff))
        return HAN;
    return Py_UNICODE_ISSPACE(c) ? SPACE : LETTER;
}

static inline size_t put(uint8_t *p, uint32_t c) {
    if (c < 0x80) {
        p[0] = (uint8_t)c;
        return 1;
    }
    if (c < 0x800) {
        p[0] = (uint8_t)(0xc0 | c >> 6);
        p[1] = (uint8_t)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) { /* lone surrogates too, as `surrogatepass` does */
        p[0] = (uint8_t)(0xe0 | c >> 12);
        p[1] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
        p[2] = (uint8_t)(0x80 | (c & 0x3f));
        return 3;
    }
    p[0] = (uint8_t)(0xf0 | c >> 18);
    p[1] = (uint8_t)(0x80 | (c >> 12 & 0x3f));
    p[2] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
    p[3] = (uint8_t)(0x80 | (c & 0x3f));
    return 4;
}

/* `_alike` of features.py, in place. Returns how many characters are left. */
static size_t alike(uint32_t *text, size_t n) {
    int arabic = 0, hindi = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t c = text[i];
        if (c == 0x2019 || c == 0x2018)
            text[i] = '\'';
        else if (c == 0x201c || c == 0x201d)
            text[i] = '"';
        else if (c == 0x451)
            text[i] = 0x435;
        arabic |= c == 0x627;
        hindi |= c == 0x94d;
    }
    if (!arabic && !hindi)
        return n;
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t c = text[i];
        if (!arabic)
            c = c >= 0x966 && c <= 0x96f ? '0' + (c - 0x966) : c;
        else if (c == 0x640 || (c >= 0x64b && c <= 0x652))
            continue;
        else if (c == 0x623 || c == 0x625 || c == 0x622)
            c = 0x627;
        else if (c == 0x629)
            c = 0x647;
        else if (c == 0x649)
            c = 0x64a;
        else if (c >= 0x660 && c <= 0x669)
            c = '0' + (c - 0x660);
        text[kept++] = c;
    }
    return kept;
}

static int are_digits(const uint32_t *text, size_t n) {
    while (n && Py_UNICODE_ISDIGIT(text[n - 1]))
        n--;
    return n == 0;
}

/* What the text is cut in, as one would with the patterns of features.py. `bytes` has room for four of each character. */
static void cut_into(Cut *cut, const uint32_t *text, size_t n, int ascii, uint8_t *bytes) {
    size_t i = 0, out = 0, n_words = 0, n_han = 0;
    cut->n_numbers = cut->n_ascii = 0;
    while (i < n) {
        int class = ascii ? ascii_classes[text[i]] : other_class(text[i]);
        if (class == SPACE) {
            i++;
            continue;
        }
        size_t end = i + 1, most = class == MARK ? i + 3 : class == HAN ? i + 1 : n;
        while (end < n && end < most && (ascii ? ascii_classes[text[end]] : other_class(text[end])) == class)
            end++;
        if (class == LETTER && end + 1 < n && text[end] == '\'' && text[end + 1] >= 'a' && text[end + 1] <= 'z') {
            end += 2;
            while (end < n && text[end] >= 'a' && text[end] <= 'z')
                end++;
        }
        Token *token = class == HAN ? &cut->han[n_han++] : &cut->words[n_words++];
        token->at = bytes + out;
        uint32_t all = 0;
        for (size_t j = i; j < end; j++) {
            out += put(bytes + out, text[j]);
            all |= text[j];
        }
        token->size = (uint32_t)(bytes + out - token->at);
        token->chars = (uint32_t)(end - i);
        token->digits = class == DIGIT || (all >= 0x80 && class != HAN && are_digits(text + i, end - i));
        token->hash = piece(token->at, token->size);
        if (class != HAN) {
            cut->n_ascii += all < 0x80;
            cut->n_numbers += (size_t)token->digits;
        }
        i = end;
    }
    if (n_han > CHARS) {
        memmove(cut->han + CHARS * 2 / 3, cut->han + n_han - (CHARS + 2) / 3, (CHARS + 2) / 3 * sizeof(Token));
        n_han = CHARS * 2 / 3 + (CHARS + 2) / 3;
    }
    cut->n_words = n_words;
    cut->n_han = n_han;
}

/* Scratch memory of so many bytes, kept for the next call. */
static uint8_t *begin(Reader *r, size_t size) {
    if (size > r->scratch_size) {
        uint8_t *more = PyMem_Realloc(r->scratch, size);
        if (more == NULL) {
            PyErr_NoMemory();
            return NULL;
        }
        r->scratch = more;
        r->scratch_size = size;
    }
    return r->scratch;
}

/* Cuts a text. Its tokens point into the scratch memory and hold until the next cut. -1 with an exception. */
static int cut_of(Reader *r, PyObject *text, Cut *cut) {
    PyObject *low = NULL;
    int ascii = PyUnicode_IS_ASCII(text);
    if (!ascii) {
        low = PyObject_CallMethod((PyObject *)&PyUnicode_Type, "lower", "O", text); /* of `str` itself, whatever a subclass does */
        if (low == NULL)
            return -1;
        text = low;
    }
    size_t n = (size_t)PyUnicode_GET_LENGTH(text);
    if (n > LONGEST) {
        PyErr_SetString(PyExc_ValueError, "a window of so many characters is none");
        Py_XDECREF(low);
        return -1;
    }
    uint8_t *p = begin(r, n * (2 * sizeof(Token) + sizeof(uint32_t) + 4) + sizeof(Token));
    if (p == NULL) {
        Py_XDECREF(low);
        return -1;
    }
    cut->words = (Token *)(void *)p;
    cut->han = cut->words + n;
    uint32_t *chars = (uint32_t *)(void *)(cut->han + n);
    uint8_t *bytes = (uint8_t *)(chars + n);
    int kind = PyUnicode_KIND(text);
    const void *data = PyUnicode_DATA(text);
    if (ascii)
        for (size_t i = 0; i < n; i++) {
            uint8_t c = ((const uint8_t *)data)[i];
            chars[i] = c >= 'A' && c <= 'Z' ? c + 32u : c;
        }
    else {
        uint32_t all = 0;
        for (size_t i = 0; i < n; i++)
            all |= chars[i] = PyUnicode_READ(kind, data, (Py_ssize_t)i);
        if (all >= 0x80)
            n = alike(chars, n);
        for (size_t i = all = 0; i < n; i++)
            all |= chars[i];
        ascii = all < 0x80;
    }
    cut_into(cut, chars, n, ascii, bytes);
    Py_XDECREF(low);
    return 0;
}

/* --- counts --------------------------------------------------------------------------------------------------------- */

static long size_class(Py_ssize_t n) {
    if (n < 4)
        return (long)n;
    int bits = 0;
    for (size_t left = (size_t)n; left; left >>= 1)
        bits++;
    long class = 2 * bits - 2 + (long)((size_t)n >> (bits - 2) & 1);
    return class < 63 ? class : 63;
}

static long share(size_t some, size_t n) { return n ? (long)(some * 10 / n) : 0; }

/* Adds the counts, and says whether the text is foreign. */
static int add_counts(Adding *a, PyObject *text, Py_ssize_t size, const Cut *cut, int around) {
    static const char signs[] = "?`{}()=;:\"_$\\!,.<#|+";
    Py_ssize_t n = PyUnicode_GET_LENGTH(text), many[128] = {0};
    int kind = PyUnicode_KIND(text), ascii = PyUnicode_IS_ASCII(text), gap = 0, fence = 0;
    const void *data = PyUnicode_DATA(text);
    uint32_t first = n ? PyUnicode_READ(kind, data, 0) : 0, last = 0, before = 0;
    size_t bytes = 0;
    for (Py_ssize_t i = 0; i < n; i++) {
        uint32_t c = PyUnicode_READ(kind, data, i);
        if (c < 0x80) {
            many[c]++;
            bytes++;
            gap |= c == '\n' && last == '\n';
            fence |= c == '`' && last == '`' && before == '`';
        } else
            bytes += c < 0x800 ? 2 : c >= 0x10000 ? 4 : c >= 0xd800 && c < 0xe000 ? 0 : 3;
        before = last;
        last = c;
    }
    size_t all = cut->n_words + cut->n_han, lines = (size_t)many['\n'];
    long known[COUNTS] = {
        size_class(size),
        size_class((Py_ssize_t)all),
        size_class((Py_ssize_t)lines),
        size_class((Py_ssize_t)(all / (lines + 1))),
        n ? (Py_UNICODE_ISUPPER(first) != 0) + 2 * (Py_UNICODE_ISALPHA(first) != 0) : 0,
        gap + 2 * fence,
        share(cut->n_numbers, all),
        share(cut->n_han, all),
        ascii ? 10 : share(cut->n_ascii, all),
        around,
    };
    for (int i = 0; signs[i]; i++)
        known[10 + i] = size_class(many[(unsigned char)signs[i]]);
    for (int i = 0; i < 10 + (int)sizeof(signs) - 1; i++)
        if (known[i] >= 0 && known[i] < SIZES && a->reader->counts[i * SIZES + known[i]])
            add(a, N, a->reader->counts[i * SIZES + known[i]]);
    return !ascii && (double)bytes >= 1.05 * (double)n;
}

static int weight_class(const Cut *cut) {
    size_t size = cut->n_words + cut->n_han / 2;
    return (size > 8) + (size > 25);
}

/* --- the object ----------------------------------------------------------------------------------------------------- */

/* A list of `columns` whole numbers: what the groups add up to, each times its unit over the root of how many are known. */
static PyObject *summed(Adding *a, double times) {
    const Reader *r = a->reader;
    int64_t factor[GROUPS], zero = 0;
    for (int g = 0; g < GROUPS; g++) {
        factor[g] = a->known[g] ? (int64_t)nearbyint(r->units[g] * times / sqrt((double)a->known[g])) : 0;
        zero += 128 * factor[g] * (int64_t)a->known[g];
    }
    PyObject *list = PyList_New((Py_ssize_t)r->columns);
    for (size_t c = 0; list != NULL && c < r->columns; c++) {
        int64_t sum = -zero;
        for (int g = 0; g < GROUPS; g++)
            sum += factor[g] * (int64_t)a->sums[(size_t)g * r->stride + c];
        PyObject *number = PyLong_FromLongLong(sum);
        if (number == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, (Py_ssize_t)c, number);
    }
    return list;
}

static void anew(Adding *a) {
    memset(a->sums, 0, GROUPS * a->reader->stride * sizeof(uint32_t));
    memset(a->known, 0, sizeof(a->known));
    memset(a->seen, 0, (a->reader->mask + 8) / 8);
    a->n = 0;
}

static PyObject *read_with(Adding *a, PyObject *text, Py_ssize_t size, PyObject *before, PyObject *system) {
    Reader *r = a->reader;
    Cut cut;
    PyObject *own = NULL, *carried = NULL;
    anew(a);
    if (PyUnicode_GET_LENGTH(system)) {
        if (cut_of(r, system, &cut) < 0)
            return NULL;
        for (size_t i = 0; i < cut.n_words; i++)
            push_one(a, S, &cut.words[i]);
        flush(a);
    }
    if (cut_of(r, text, &cut) < 0)
        return NULL;
    push_words(a, &cut);
    push_first_and_last(a, &cut);
    flush(a);
    int foreign = add_counts(a, text, size, &cut, (PyUnicode_GET_LENGTH(before) != 0) + 2 * (PyUnicode_GET_LENGTH(system) != 0));
    int class = weight_class(&cut);
    own = summed(a, 1.0);
    if (own == NULL)
        return NULL;
    if (PyUnicode_GET_LENGTH(before)) {
        anew(a);
        if (cut_of(r, before, &cut) < 0) {
            Py_DECREF(own);
            return NULL;
        }
        push_words(a, &cut);
        push_first_and_last(a, &cut);
        flush(a);
        carried = summed(a, r->carry[class]);
        if (carried == NULL) {
            Py_DECREF(own);
            return NULL;
        }
    } else
        carried = Py_NewRef(Py_None);
    return Py_BuildValue("NNN", own, carried, PyBool_FromLong(foreign));
}

PyDoc_STRVAR(read_doc, "read(text, size, before, system) -> (sums, sums of the message before or None, whether the text is foreign)");

static PyObject *Reader_read(Reader *self, PyObject *const *args, Py_ssize_t nargs) {
    if (nargs != 4 || !PyUnicode_Check(args[0]) || !PyUnicode_Check(args[2]) || !PyUnicode_Check(args[3])) {
        PyErr_SetString(PyExc_TypeError, "read(text: str, size: int, before: str, system: str)");
        return NULL;
    }
    if (self->slots == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "a reader that was never made");
        return NULL;
    }
#if PY_VERSION_HEX < 0x030C0000
    if (PyUnicode_READY(args[0]) < 0 || PyUnicode_READY(args[2]) < 0 || PyUnicode_READY(args[3]) < 0)
        return NULL;
#endif
    Py_ssize_t size = PyNumber_AsSsize_t(args[1], NULL); /* clipped: all sizes beyond are of one class */
    if (size == -1 && PyErr_Occurred())
        return NULL;
    Adding adding;
    adding.reader = self;
    adding.sums = PyMem_Malloc(GROUPS * self->stride * sizeof(uint32_t) + (self->mask + 8) / 8);
    if (adding.sums == NULL)
        return PyErr_NoMemory();
    adding.seen = (uint8_t *)(adding.sums + GROUPS * self->stride);
    PyObject *result = read_with(&adding, args[0], size, args[2], args[3]);
    PyMem_Free(adding.sums);
    if (self->scratch_size > KEEP) { /* of a text that was no window */
        PyMem_Free(self->scratch);
        self->scratch = NULL;
        self->scratch_size = 0;
    }
    return result;
}

/* One key of the file: into the table, or among the counts. */
static int take(Reader *r, int group, PyObject *key, const uint8_t *weights, size_t row, size_t rows) {
    if (group == N) {
        PyObject *number = PyLong_FromUnicodeObject(key, 10);
        if (number == NULL)
            return -1;
        int overflow;
        long value = PyLong_AsLongAndOverflow(number, &overflow);
        Py_DECREF(number);
        if (overflow || value < 0 || value >= COUNTS * SIZES)
            return 0; /* no prompt has it */
        return (r->counts[value] = stored(r, N, NULL, 0, weights, row, rows)) == 0 ? -1 : 0;
    }
    PyObject *encoded = PyUnicode_AsEncodedString(key, "utf-8", "surrogatepass");
    if (encoded == NULL)
        return -1;
    const uint8_t *bytes = (const uint8_t *)PyBytes_AS_STRING(encoded);
    size_t size = (size_t)PyBytes_GET_SIZE(encoded);
    int failed = 0;
    if (group != A)
        failed = insert(r, group, bytes, size, weights, row, rows);
    else {
        if (size && bytes[0] == '#')
            failed |= insert(r, A, bytes, size, weights, row, rows);
        if (!failed && size && bytes[size - 1] == '-')
            failed |= insert(r, BEGINS, bytes, size - 1, weights, row, rows);
        if (!failed && size && bytes[0] == '-')
            failed |= insert(r, FINALS, bytes + 1, size - 1, weights, row, rows);
    }
    Py_DECREF(encoded);
    return failed;
}

static int filled(Reader *r, PyObject *keys, const Py_ssize_t *counts, const uint8_t *weights, size_t rows) {
    size_t slots = 64, row = 0;
    while (slots < 2 * (rows + (size_t)counts[A])) /* a key of A may stand there twice; at most half of all slots are taken */
        slots *= 2;
    r->slots = PyMem_Calloc(slots, sizeof(Slot));
    if (r->slots == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    r->mask = slots - 1;
    for (int group = 0; group < GROUPS; group++)
        for (Py_ssize_t i = 0; i < counts[group]; i++, row++) {
            PyObject *key = PyList_GET_ITEM(keys, (Py_ssize_t)row);
            if (!PyUnicode_Check(key)) {
                PyErr_SetString(PyExc_TypeError, "a key is no text");
                return -1;
            }
            if (take(r, group, key, weights, row, rows) < 0)
                return -1;
        }
    uint8_t *tight = PyMem_Realloc(r->arena, r->used + AHEAD + LANES); /* with room behind it, see `add` and `flush` */
    if (tight == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    r->arena = tight;
    return 0;
}

static PyObject *Reader_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    PyObject *keys;
    Py_ssize_t n[GROUPS], columns, total = 0;
    Py_buffer weights;
    double u[GROUPS], carry[3];
    if (kwargs != NULL && PyDict_GET_SIZE(kwargs)) {
        PyErr_SetString(PyExc_TypeError, "Reader takes no keyword arguments");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "O!(nnnnnnn)y*n(ddddddd)(ddd)", &PyList_Type, &keys, &n[0], &n[1], &n[2], &n[3], &n[4], &n[5], &n[6],
                          &weights, &columns, &u[0], &u[1], &u[2], &u[3], &u[4], &u[5], &u[6], &carry[0], &carry[1], &carry[2]))
        return NULL;
    Reader *r = NULL;
    for (int g = 0; g < GROUPS; g++) {
        if (n[g] < 0 || n[g] > PyList_GET_SIZE(keys))
            goto mismatch;
        total += n[g];
    }
    if (columns < 1 || total != PyList_GET_SIZE(keys) || total > 1 << 24 || columns > 1 << 12 || weights.len != total * columns)
        goto mismatch;
    r = (Reader *)type->tp_alloc(type, 0);
    if (r != NULL) {
        r->columns = (size_t)columns;
        r->stride = (r->columns + LANES - 1) / LANES * LANES;
        memcpy(r->units, u, sizeof(u));
        memcpy(r->carry, carry, sizeof(carry));
        if (filled(r, keys, n, weights.buf, (size_t)total) < 0)
            Py_CLEAR(r);
    }
    PyBuffer_Release(&weights);
    return (PyObject *)r;
mismatch:
    PyBuffer_Release(&weights);
    PyErr_SetString(PyExc_ValueError, "keys, counts and weights are not of one size");
    return NULL;
}

static void Reader_dealloc(Reader *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyMem_Free(self->slots);
    PyMem_Free(self->arena);
    PyMem_Free(self->scratch);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"read", (PyCFunction)(void (*)(void))Reader_read, METH_FASTCALL, read_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot type_slots[] = {
    {Py_tp_new, Reader_new},
    {Py_tp_dealloc, Reader_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_doc, "Reader(keys, counts of the groups, weights, columns, units of the groups, carry)"},
    {0, NULL},
};

static PyType_Spec spec = {"bestserve.policy._reader.Reader", sizeof(Reader), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE, type_slots};

static int executed(PyObject *module) {
    make_classes();
    PyObject *type = PyType_FromModuleAndSpec(module, &spec, NULL);
    int failed = type == NULL ? -1 : PyModule_AddType(module, (PyTypeObject *)type);
    Py_XDECREF(type);
    return failed;
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, executed}, {0, NULL}};

static struct PyModuleDef module = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_reader",
    .m_doc = "Sums of a prompt's features, compiled.",
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__reader(void) { return PyModuleDef_Init(&module); }
