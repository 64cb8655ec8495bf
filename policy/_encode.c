/* The compiled twin of `fill` in encode.py. That one is the specification; tests/policy/test_encode.py holds the two together, to the
   last bit: these numbers are named by a hash in the replay log, and worked out again from it. And of `worth_of`, whose sums BLAS adds up
   in an order of its own.

   Plan
       The same operations in the same order, and the C library's functions, which are those that Python's `math` calls. (`hypot` is
       Python's own algorithm, and asked of it.) No product is contracted with a sum: see the flags in pyproject.toml.

       Only what is ordinary is worked out here: columns that are lists or tuples of floats, of one size. Where something has no
       logarithm, is divided by nothing, or comes out as no number, the answer is None and plain Python says what is to be said of it.

   The interpreter's lock is held throughout; between reading the first column and the last one no Python code runs. */

#include "_seen.h"
#include <float.h>
#include <string.h>

/* As in facts.py. */
enum { WHOLE, CUT, BRIEF, BRIEF_CUT, BRIEF_LENGTH, LONGER, N_KNOWN };

/* As in encode.py. */
enum { ENCODER = 4, MOST_BUDGETS = 64, MOST_TASKS = 64 }; /* beyond so many it is left to plain Python */
/* CLIP and PROMISE as in batching.py. */
static const double CLIP = 4096.0, PROMISE = 0.1;
static const double SURE_SHARE = 0.5, TOLD_SHARE = 0.7, TOLD_SIGMA = 0.75, SPREAD = 0.25, STEEP = 1.702 / 0.25, SAME = 1e-9, FAR = 1e6;

typedef struct {
    double cap, mu, sigma, tokens, whole, sure, off; /* the last: the spread of the length, and of what is predicted of the time */
    int told, distinct;
} Rung;

typedef struct {
    double fleet[N_FLEET], constant[N_CONSTANT], worth[N_KNOWN], cached;
    int able, usable;
} Backend;

typedef struct {
    Py_ssize_t backends, budgets;
    double asked[N_ASKED], rate, off[2]; /* the last: of a free answer, of one that is told to be short */
    int ends;                            /* the whole answer has a deadline */
    Rung ladder[MOST_BUDGETS];
    int odd; /* something that is left to plain Python */
} Case;

/* --- reading what Python has; 0 for what is not ordinary ------------------------------------------------------------- */

static int is_column(PyObject *column, Py_ssize_t n) {
    return (PyList_Check(column) && PyList_GET_SIZE(column) == n) || (PyTuple_Check(column) && PyTuple_GET_SIZE(column) == n);
}

static int number(PyObject *item, double *into) {
    if (!PyFloat_CheckExact(item))
        return 0;
    *into = PyFloat_AS_DOUBLE(item);
    return 1;
}

static int flag(PyObject *item, int *into) {
    *into = item == Py_True;
    return *into || item == Py_False;
}

static int is_group(PyObject *group, Py_ssize_t n) { return PyTuple_Check(group) && PyTuple_GET_SIZE(group) == n; }

static inline PyObject *part(PyObject *seen, int group, int name) { return PyTuple_GET_ITEM(PyTuple_GET_ITEM(seen, group), name); }

static inline PyObject *item(PyObject *column, Py_ssize_t i) { return PySequence_Fast_ITEMS(column)[i]; }

/* Sizes and shapes, so that what is read later is there. */
static int is_ordinary(Case *c, PyObject *seen) {
    if (!is_group(seen, N_SEEN) || !is_group(PyTuple_GET_ITEM(seen, SEEN_asked), N_ASKED) ||
        !is_group(PyTuple_GET_ITEM(seen, SEEN_caps), N_CAPS) || !is_group(PyTuple_GET_ITEM(seen, SEEN_fleet), N_FLEET) ||
        !is_group(PyTuple_GET_ITEM(seen, SEEN_constants), N_CONSTANT))
        return 0;
    PyObject *able = PyTuple_GET_ITEM(seen, SEEN_able), *tokens = part(seen, SEEN_caps, CAPS_tokens);
    if (!(PyList_Check(able) || PyTuple_Check(able)) || !PyTuple_Check(tokens))
        return 0;
    Py_ssize_t n = c->backends = PySequence_Fast_GET_SIZE(able);
    c->budgets = PyTuple_GET_SIZE(tokens);
    if (n < 1 || n > 1 << 14 || c->budgets < 1 || c->budgets > MOST_BUDGETS)
        return 0;
    int ok = is_column(part(seen, SEEN_caps, CAPS_told), c->budgets) && is_column(PyTuple_GET_ITEM(seen, SEEN_worth), n * N_KNOWN) &&
             is_column(PyTuple_GET_ITEM(seen, SEEN_cached), n);
    for (int i = FLEET_usable; i < N_FLEET; i++)
        ok = ok && is_column(part(seen, SEEN_fleet, i), n);
    for (int i = 0; i < N_CONSTANT; i++)
        ok = ok && is_column(part(seen, SEEN_constants, i), n);
    return ok;
}

static int read_asked(Case *c, PyObject *seen) {
    int ok = number(part(seen, SEEN_fleet, FLEET_arrival_rate), &c->rate);
    for (int i = 0; i < N_ASKED; i++)
        ok = ok && number(part(seen, SEEN_asked, i), &c->asked[i]);
    c->ends = c->asked[ASKED_e2e_s] < INFINITY;
    return ok;
}

static int read_backend(Backend *to, PyObject *seen, Py_ssize_t b) {
    int ok = flag(item(PyTuple_GET_ITEM(seen, SEEN_able), b), &to->able) && flag(item(part(seen, SEEN_fleet, FLEET_usable), b), &to->usable) &&
             number(item(PyTuple_GET_ITEM(seen, SEEN_cached), b), &to->cached);
    for (int i = FLEET_in_flight; i < N_FLEET; i++)
        ok = ok && number(item(part(seen, SEEN_fleet, i), b), &to->fleet[i]);
    for (int i = 0; i < N_CONSTANT; i++)
        ok = ok && number(item(part(seen, SEEN_constants, i), b), &to->constant[i]);
    for (int i = 0; i < N_KNOWN; i++)
        ok = ok && number(item(PyTuple_GET_ITEM(seen, SEEN_worth), b * N_KNOWN + i), &to->worth[i]);
    return ok;
}

/* --- arithmetic, as in encode.py ------------------------------------------------------------------------------------- */

static inline double phi(double z) { return 0.5 * tanh(z * (0.7978845608 + 0.0356774081 * (z * z))) + 0.5; }

static void cap_it(Case *c, Rung *r) {
    double mean = exp(r->mu + r->sigma * r->sigma / 2.0);
    c->odd |= !isfinite(mean);
    r->tokens = most(mean, 1.0);
    r->whole = r->sure = 1.0;
    if (r->cap == INFINITY)
        return;
    double z = over(&c->odd, ln(&c->odd, r->cap) - r->mu, r->sigma);
    r->whole = phi(z);
    r->tokens = most(mean * phi(z - r->sigma) + r->cap * (1.0 - r->whole), 1.0);
    r->sure = r->cap;
}

/* Which budgets are told stands in the ladder already. */
static void climb(Case *c, const double *caps, double longer, double shorter) {
    for (Py_ssize_t k = 0; k < c->budgets; k++) {
        Rung *r = &c->ladder[k];
        r->mu = c->asked[ASKED_mu] + longer;
        r->sigma = c->asked[ASKED_sigma];
        if (r->told) {
            r->mu = r->mu + ln(&c->odd, shorter);
            r->sigma = r->sigma * TOLD_SIGMA;
            if (caps[k] < INFINITY)
                r->mu = least(r->mu, ln(&c->odd, TOLD_SHARE * caps[k]));
        }
        r->cap = least(caps[k], c->asked[ASKED_ceiling]);
        r->distinct = 1;
        for (Py_ssize_t j = 0; j < k; j++)
            r->distinct = r->distinct && !(c->ladder[j].cap == r->cap && c->ladder[j].told == r->told);
        r->off = c->off[r->told];
        cap_it(c, r);
    }
}

static double in_time(Case *c, double predicted, double deadline) {
    double ratio = least(over(&c->odd, predicted, deadline), FAR), power = pow(ratio, STEEP);
    c->odd |= !(ratio >= 0.0) || (power < DBL_MIN && power != 0.0);
    return 1.0 / (1.0 + power);
}

static double ends_in_time(Case *c, double ttft, double tpot, const Rung *r) {
    double room = over(&c->odd, most(c->asked[ASKED_e2e_s] - ttft, 1e-9), tpot);
    return room >= r->cap ? 1.0 : phi(over(&c->odd, ln(&c->odd, room) - r->mu, r->off));
}

typedef struct {
    double ttft, tpot, step, places;
} Speed;

static Speed speed(Case *c, const Backend *to, double new) {
    const double *fleet = to->fleet, *constant = to->constant;
    double present = fleet[FLEET_in_flight] + c->asked[ASKED_n], kv = fleet[FLEET_kv_tokens] + c->asked[ASKED_prompt];
    double places = least(fleet[FLEET_places], over(&c->odd, constant[CONSTANT_kv_capacity] * present, kv + fleet[FLEET_decode_tokens]));
    double running = least(present, places);
    double step = (constant[CONSTANT_step_fixed] + running * constant[CONSTANT_step_per_seq] +
                   least(kv, constant[CONSTANT_kv_capacity]) * constant[CONSTANT_step_per_kv]) *
                  fleet[FLEET_pace_each];
    double begun = fleet[FLEET_in_flight] > 0.0 ? 0.5 * step : 0.0;
    double prefill = over(&c->odd, fleet[FLEET_prefill_tokens] + new, constant[CONSTANT_prefill_rate]);
    double ttft = (constant[CONSTANT_overhead] + constant[CONSTANT_prefill_fixed] + prefill) * fleet[FLEET_pace_first] + begun;
    if (present > fleet[FLEET_places])
        ttft += over(&c->odd, present - fleet[FLEET_places], fleet[FLEET_places]) * over(&c->odd, fleet[FLEET_decode_tokens], present) * step;
    double reading = least(over(&c->odd, c->rate * new / (double)c->backends, constant[CONSTANT_prefill_rate]), 0.5);
    return (Speed){ttft, over(&c->odd, step, 1.0 - reading), step, places};
}

static double memory_wait(Case *c, const Backend *to, double cap, double step) {
    const double *fleet = to->fleet, prompt = c->asked[ASKED_prompt];
    double n = fleet[FLEET_in_flight], claim = c->asked[ASKED_n] * least(least(cap, CLIP), most(to->constant[CONSTANT_context] - prompt, 1.0));
    double held = fleet[FLEET_kv_tokens] + PROMISE * claim * n;
    double lacking = held + prompt + claim - to->constant[CONSTANT_kv_capacity];
    if (n <= 0.0 || lacking <= 0.0)
        return 0.0;
    return least(lacking / most(held - fleet[FLEET_prefill_tokens], 1.0), 1.0) * over(&c->odd, fleet[FLEET_decode_tokens], n) * step;
}

static double harm(Case *c, const Backend *to, double new, double step) {
    const double *fleet = to->fleet, *constant = to->constant;
    double n = fleet[FLEET_in_flight], writing = least(fleet[FLEET_writing], n), haste = fleet[FLEET_haste], deadline = c->asked[ASKED_tpot_s];
    double ahead = over(&c->odd, fleet[FLEET_prefill_tokens], constant[CONSTANT_prefill_rate]) * fleet[FLEET_pace_first];
    double reading = constant[CONSTANT_prefill_fixed] + over(&c->odd, new, constant[CONSTANT_prefill_rate]);
    double more = reading * fleet[FLEET_pace_first] * haste, sum = 0.0;
    if (writing > 0.0) {
        double stood = most(fleet[FLEET_writing_s] - fleet[FLEET_written] * step, 0.0);
        double each = step + (over(&c->odd, stood, writing) + ahead) * haste;
        sum += writing * (in_time(c, each, deadline) - in_time(c, each + more, deadline));
    }
    if (n > writing) {
        double each = step + 0.5 * ahead * haste;
        sum += (n - writing) * (in_time(c, each, deadline) - in_time(c, each + more, deadline));
    }
    return sum * fleet[FLEET_worth];
}

/* --- writing the answer ---------------------------------------------------------------------------------------------- */

static void fill_backend(Case *c, const Backend *to, Py_ssize_t b, double *features, PyObject *mask) {
    const double *asked = c->asked, *fleet = to->fleet, *constant = to->constant;
    double new = asked[ASKED_prompt] - to->cached * (1.0 - constant[CONSTANT_cached_cost]);
    Speed s = speed(c, to, new);
    double reading = over(&c->odd, new, constant[CONSTANT_prefill_rate]) * fleet[FLEET_pace_first];
    double writing =
        (constant[CONSTANT_step_shared] + constant[CONSTANT_step_per_kv] * asked[ASKED_prompt]) * asked[ASKED_n] * fleet[FLEET_pace_each];
    double each = in_time(c, s.tpot, asked[ASKED_tpot_s]), soon = in_time(c, s.ttft, asked[ASKED_ttft_s]) * each;
    double crowd = over(&c->odd, fleet[FLEET_in_flight], s.places), room = constant[CONSTANT_context] - SURE_SHARE * asked[ASKED_prompt];
    double late = harm(c, to, new, s.step);
    double read_usd = asked[ASKED_prompt] * constant[CONSTANT_usd_per_prompt_token], write_usd = asked[ASKED_n] * constant[CONSTANT_usd_per_token];
    for (Py_ssize_t k = 0; k < c->budgets; k++) {
        const Rung *r = &c->ladder[k];
        double work = reading + writing * r->tokens, paid = read_usd + write_usd * r->tokens;
        const double *best = to->worth + (r->told ? BRIEF : WHOLE);
        double cut = best[CUT - WHOLE];
        double wait = memory_wait(c, to, r->cap, s.step), first = s.ttft + wait;
        double here = wait == 0.0 ? soon : in_time(c, first, asked[ASKED_ttft_s]) * each;
        double *x = features + (b * c->budgets + k) * N_FEATURE;
        x[FEATURE_ttft_s] = first;
        x[FEATURE_tpot_s] = s.tpot;
        x[FEATURE_tokens] = r->tokens;
        x[FEATURE_latency_s] = first + s.tpot * (r->tokens - 1.0);
        x[FEATURE_p_whole] = r->whole;
        x[FEATURE_p_on_time] = c->ends ? here * ends_in_time(c, first, s.tpot, r) : here;
        x[FEATURE_quality] = cut + (best[0] - cut) * r->whole;
        x[FEATURE_work_s] = work;
        x[FEATURE_load] = crowd;
        x[FEATURE_price] = fleet[FLEET_price];
        x[FEATURE_usd] = work * constant[CONSTANT_usd_per_s] + paid;
        x[FEATURE_pay] = paid * asked[ASKED_usd_weight];
        x[FEATURE_harm] = late;
        for (int i = 0; i < N_FEATURE; i++)
            c->odd |= isnan(x[i]);
        int can = to->able && to->usable && r->distinct && r->sure <= room;
        PyList_SET_ITEM(mask, b * c->budgets + k, Py_NewRef(can ? Py_True : Py_False));
    }
}

/* Leave out backends whose queue was full a moment ago, while anybody else can answer. 0 for what is not ordinary. */
static int hold_back(Case *c, PyObject *held, PyObject *mask) {
    int some = 0, others = 0, here;
    for (Py_ssize_t b = 0; b < c->backends; b++) {
        if (!flag(item(held, b), &here))
            return 0;
        some |= here;
        for (Py_ssize_t k = 0; k < c->budgets; k++)
            others |= !here && PyList_GET_ITEM(mask, b * c->budgets + k) == Py_True;
    }
    for (Py_ssize_t a = 0; some && others && a < c->backends * c->budgets; a++)
        if (item(held, a / c->budgets) == Py_True)
            PyList_SetItem(mask, a, Py_NewRef(Py_False));
    return 1;
}

/* 0 for what is not ordinary. */
static int fill(Case *c, PyObject *seen, double *features, PyObject *mask) {
    double caps[MOST_BUDGETS], longer = INFINITY, shorter = INFINITY;
    for (Py_ssize_t k = 0; k < c->budgets; k++)
        if (!number(item(part(seen, SEEN_caps, CAPS_tokens), k), &caps[k]) ||
            !flag(item(part(seen, SEEN_caps, CAPS_told), k), &c->ladder[k].told))
            return 0;
    for (Py_ssize_t b = 0; b < c->backends; b++) {
        Backend to;
        if (!read_backend(&to, seen, b))
            return 0;
        if (fabs(to.worth[LONGER] - longer) > SAME || fabs(to.worth[BRIEF_LENGTH] - shorter) > SAME) {
            longer = to.worth[LONGER];
            shorter = to.worth[BRIEF_LENGTH];
            climb(c, caps, longer, shorter);
        }
        fill_backend(c, &to, b, features, mask);
    }
    PyList_SET_ITEM(mask, c->backends * c->budgets, Py_NewRef(Py_True));
    return hold_back(c, PyTuple_GET_ITEM(PyTuple_GET_ITEM(seen, SEEN_fleet), FLEET_held), mask) && !c->odd;
}

/* --- the module ------------------------------------------------------------------------------------------------------ */

typedef struct {
    PyObject *hypot, *array, *d; /* Python's own, and the array's kind */
} State;

/* The spread of a length of this sigma, and of what is predicted of the time. -1 with an exception. */
static int spread_of(PyObject *module, double sigma, double *into) {
    PyObject *numbers[] = {PyFloat_FromDouble(sigma), PyFloat_FromDouble(SPREAD)}, *found = NULL;
    if (numbers[0] != NULL && numbers[1] != NULL)
        found = PyObject_Vectorcall(((State *)PyModule_GetState(module))->hypot, numbers, 2, NULL);
    *into = found == NULL ? -1.0 : PyFloat_AsDouble(found);
    Py_XDECREF(numbers[0]);
    Py_XDECREF(numbers[1]);
    Py_XDECREF(found);
    return PyErr_Occurred() ? -1 : 0;
}

/* The bytes as an array of doubles, and the mask. */
static PyObject *observed(PyObject *module, PyObject *bytes, PyObject *mask) {
    State *state = PyModule_GetState(module);
    PyObject *how[] = {state->d, bytes}, *features = PyObject_Vectorcall(state->array, how, 2, NULL);
    PyObject *made = features == NULL ? NULL : PyTuple_Pack(2, features, mask);
    Py_XDECREF(features);
    return made;
}

PyDoc_STRVAR(fill_doc, "fill(seen) -> (features, mask), or None where plain Python has to say what they are");

static PyObject *encode_fill(PyObject *module, PyObject *seen) {
    Case c;
    c.odd = 0;
    if (!is_ordinary(&c, seen) || !read_asked(&c, seen))
        Py_RETURN_NONE;
    double sigma = c.asked[ASKED_sigma];
    if (c.ends && (spread_of(module, sigma, &c.off[0]) < 0 || spread_of(module, sigma * TOLD_SIGMA, &c.off[1]) < 0))
        return NULL;
    Py_ssize_t n = c.backends * c.budgets;
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, n * N_FEATURE * (Py_ssize_t)sizeof(double)), *mask = PyList_New(n + 1), *made = NULL;
    /* Making a list may run the collector, and so any Python code: what follows does not. */
    if (bytes != NULL && mask != NULL) {
        int same = is_ordinary(&c, seen) && c.backends * c.budgets == n;
        made = same && fill(&c, seen, (double *)PyBytes_AS_STRING(bytes), mask) ? observed(module, bytes, mask) : Py_NewRef(Py_None);
    }
    Py_XDECREF(bytes);
    Py_XDECREF(mask);
    return made;
}

PyDoc_STRVAR(worth_doc, "worth_of(knowledge, task) -> what is known of each backend at a task, or None where plain Python has to say it");

static PyObject *encode_worth(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs) {
    double task[MOST_TASKS], *known;
    Py_buffer view;
    if (nargs != 2 || !PyTuple_Check(args[1]) || PyObject_GetBuffer(args[0], &view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT) < 0) {
        PyErr_Clear();
        Py_RETURN_NONE;
    }
    Py_ssize_t tasks = PyTuple_GET_SIZE(args[1]), i = 0;
    int ok = view.ndim == 2 && view.shape[1] == tasks && tasks <= MOST_TASKS && strcmp(view.format, "d") == 0;
    for (Py_ssize_t t = 0; ok && t < tasks; t++)
        ok = number(PyTuple_GET_ITEM(args[1], t), &task[t]);
    PyObject *worth = ok ? PyList_New(view.shape[0]) : Py_NewRef(Py_None);
    for (known = view.buf; ok && worth != NULL && i < view.shape[0]; i++, known += tasks) {
        double sum = 0.0;
        for (Py_ssize_t t = 0; t < tasks; t++)
            sum += known[t] * task[t];
        PyObject *each = PyFloat_FromDouble(sum);
        if (each == NULL)
            Py_CLEAR(worth);
        else
            PyList_SET_ITEM(worth, i, each);
    }
    PyBuffer_Release(&view);
    return worth;
}

static PyMethodDef methods[] = {
    {"fill", encode_fill, METH_O, fill_doc},
    {"worth_of", (PyCFunction)(void (*)(void))encode_worth, METH_FASTCALL, worth_doc},
    {NULL, NULL, 0, NULL},
};

static PyObject *layout(void) {
    return Py_BuildValue("((idddddddd)(iiiiii)NNNNNN)", ENCODER, SURE_SHARE, TOLD_SHARE, TOLD_SIGMA, SPREAD, SAME, FAR, CLIP, PROMISE, WHOLE,
                         CUT, BRIEF, BRIEF_LENGTH, LONGER, N_KNOWN, names_of(feature_names), names_of(seen_names), names_of(asked_names),
                         names_of(caps_names), names_of(fleet_names), names_of(constant_names));
}

static PyObject *imported(const char *from, const char *name) {
    PyObject *module = PyImport_ImportModule(from), *found = module == NULL ? NULL : PyObject_GetAttrString(module, name);
    Py_XDECREF(module);
    return found;
}

static int executed(PyObject *module) {
    State *state = PyModule_GetState(module);
    PyObject *made = layout();
    state->hypot = imported("math", "hypot");
    state->array = imported("array", "array");
    state->d = PyUnicode_FromString("d");
    int whole = made != NULL && state->hypot != NULL && state->array != NULL && state->d != NULL;
    int failed = whole ? PyModule_AddObjectRef(module, "LAYOUT", made) : -1;
    Py_XDECREF(made);
    return failed;
}

static int visited(PyObject *module, visitproc visit, void *arg) {
    State *state = PyModule_GetState(module);
    Py_VISIT(state->hypot);
    Py_VISIT(state->array);
    return 0;
}

static int cleared(PyObject *module) {
    State *state = PyModule_GetState(module);
    Py_CLEAR(state->hypot);
    Py_CLEAR(state->array);
    Py_CLEAR(state->d);
    return 0;
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, executed}, {0, NULL}};

static struct PyModuleDef module = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_encode",
    .m_doc = "What a request would meet, compiled.",
    .m_size = sizeof(State),
    .m_methods = methods,
    .m_slots = slots,
    .m_traverse = visited,
    .m_clear = cleared,
};

PyMODINIT_FUNC PyInit__encode(void) { return PyModuleDef_Init(&module); }
