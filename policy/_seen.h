/* What compiled code reads of Python's sources, by name and in their order: `encode.Seen` and what stands in it, and `encode.FEATURES`.
   Who imports what was compiled compares these names with its own, so that an old build beside newer sources does not decide. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>

#define FEATURES(X)                                                                                                                         \
    X(FEATURE, ttft_s) X(FEATURE, tpot_s) X(FEATURE, tokens) X(FEATURE, latency_s) X(FEATURE, p_whole) X(FEATURE, p_on_time)               \
    X(FEATURE, quality) X(FEATURE, work_s) X(FEATURE, load) X(FEATURE, price) X(FEATURE, usd) X(FEATURE, pay) X(FEATURE, harm)
#define SEEN(X) X(SEEN, asked) X(SEEN, caps) X(SEEN, fleet) X(SEEN, constants) X(SEEN, worth) X(SEEN, able) X(SEEN, cached)
#define ASKED(X)                                                                                                                            \
    X(ASKED, prompt) X(ASKED, n) X(ASKED, ceiling) X(ASKED, mu) X(ASKED, sigma) X(ASKED, ttft_s) X(ASKED, tpot_s) X(ASKED, e2e_s)          \
    X(ASKED, weight) X(ASKED, usd_weight)
#define CAPS(X) X(CAPS, tokens) X(CAPS, told)
#define FLEET(X)                                                                                                                            \
    X(FLEET, now) X(FLEET, arrival_rate) X(FLEET, usable) X(FLEET, held) X(FLEET, in_flight) X(FLEET, prefill_tokens)                      \
    X(FLEET, decode_tokens) X(FLEET, kv_tokens) X(FLEET, haste) X(FLEET, worth) X(FLEET, writing) X(FLEET, written) X(FLEET, writing_s)    \
    X(FLEET, places) X(FLEET, report_age_s) X(FLEET, price) X(FLEET, pace_first) X(FLEET, pace_each)
#define CONSTANTS(X)                                                                                                                        \
    X(CONSTANT, prefill_rate) X(CONSTANT, prefill_fixed) X(CONSTANT, overhead) X(CONSTANT, cached_cost) X(CONSTANT, step_fixed)            \
    X(CONSTANT, step_per_seq) X(CONSTANT, step_per_kv) X(CONSTANT, step_shared) X(CONSTANT, max_running) X(CONSTANT, kv_capacity)          \
    X(CONSTANT, context) X(CONSTANT, usd_per_s) X(CONSTANT, usd_per_prompt_token) X(CONSTANT, usd_per_token)

#define PLACE(group, name) group##_##name,
#define NAME(group, name) #name,
#define COUNTED(group, list, names)                                                                                                         \
    enum { list(PLACE) N_##group };                                                                                                         \
    static const char *const names[] = {list(NAME) NULL};
COUNTED(FEATURE, FEATURES, feature_names)
COUNTED(SEEN, SEEN, seen_names)
COUNTED(ASKED, ASKED, asked_names)
COUNTED(CAPS, CAPS, caps_names)
COUNTED(FLEET, FLEET, fleet_names)
COUNTED(CONSTANT, CONSTANTS, constant_names)

static PyObject *names_of(const char *const *names) {
    Py_ssize_t n = 0;
    while (names[n] != NULL)
        n++;
    PyObject *tuple = PyTuple_New(n);
    for (Py_ssize_t i = 0; tuple != NULL && i < n; i++) {
        PyObject *name = PyUnicode_FromString(names[i]);
        if (name == NULL)
            Py_CLEAR(tuple);
        else
            PyTuple_SET_ITEM(tuple, i, name);
    }
    return tuple;
}

/* As Python's own: the first where they are equal, or where one is no number. */
static inline double least(double a, double b) { return b < a ? b : a; }

static inline double most(double a, double b) { return b > a ? b : a; }

/* These two note in `odd` what plain Python has to say something of. */
static inline double ln(int *odd, double v) {
    *odd |= !(v > 0.0);
    return log(v);
}

static inline double over(int *odd, double a, double b) {
    *odd |= b == 0.0;
    return a / b;
}
