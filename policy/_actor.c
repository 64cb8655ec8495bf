/* The compiled twin of `act` in policies.py: rows, context, network, prior and probabilities of one decision, to 1e-9. That one is the
   specification; tests/policy/test_actor.py holds the two together.

   Facts
       One decision is some 3,500 multiplications for each action. What costs in Python is not these but dozens of calls into numpy over
       a dozen numbers each (docs/decisions/0024).

   Plan
       What is read is named below, in the order in which Python has it; `LAYOUT` gives these names back, and who imports this compares
       them with its own (`actor.py`). Only what is ordinary is worked out here: where something has no logarithm, is divided by nothing,
       or comes out as no number, the answer is None and plain Python says what is to be said of it.

   The interpreter's lock is held throughout. A call takes the scratch memory out of the object while it uses it, so that whatever Python
   code a strange number may run finds none, and makes its own. */

#include "_seen.h"
#include <string.h>

#define ROW(X)                                                                                                                              \
    X(ROW, asks) X(ROW, quality) X(ROW, p_on_time) X(ROW, worth) X(ROW, worth_gap) X(ROW, cost) X(ROW, score) X(ROW, score_gap)            \
    X(ROW, first) X(ROW, each) X(ROW, whole) X(ROW, p_whole) X(ROW, tokens) X(ROW, work) X(ROW, load) X(ROW, backlog) X(ROW, memory)       \
    X(ROW, pace_first) X(ROW, pace_each) X(ROW, age) X(ROW, told) X(ROW, cached) X(ROW, harm)
#define CONTEXT(X)                                                                                                                          \
    X(CONTEXT, demand_most) X(CONTEXT, demand_least) X(CONTEXT, backends) X(CONTEXT, usable) X(CONTEXT, weight) X(CONTEXT, least_load)     \
    X(CONTEXT, mean_load) X(CONTEXT, most_load) X(CONTEXT, mean_cost) X(CONTEXT, best_score) X(CONTEXT, prompt) X(CONTEXT, spread)
#define PARAMETERS(X)                                                                                                                       \
    X(PARAMETER, shed_score) X(PARAMETER, price_factor) X(PARAMETER, crowd_price) X(PARAMETER, crowd_from)               \
    X(PARAMETER, harm_price) X(PARAMETER, sharpness)

COUNTED(ROW, ROW, row_names)
COUNTED(CONTEXT, CONTEXT, context_names)
COUNTED(PARAMETER, PARAMETERS, parameter_names)

/* As in inputs.py and network.py. */
enum { INPUTS = 2, WIDTH = 48 };
static const double FAR = 3.0, TEMPERATURE = 0.05, NEVER = 1000.0;

typedef struct {
    double w1[N_ROW][WIDTH], wc[N_CONTEXT][WIDTH], b1[WIDTH], w2[WIDTH][WIDTH], wp[WIDTH][WIDTH], b2[WIDTH], w3[WIDTH][2], b3[2];
} Weights; /* as `network.Network` */

typedef struct {
    PyObject_HEAD
    Weights weights;
    double parameters[N_PARAMETER];
    double *scratch;
    size_t scratch_size; /* numbers */
} Actor;

typedef struct {
    size_t backends, budgets, n; /* the last: actions that ask somebody, the product of the others */
    double asked[N_ASKED], rate;
    double *x, *mask;                                                                /* (n, N_FEATURE), (n + 1) */
    double *told, *usable, *prefill, *kv, *pace_first, *pace_each, *age, *cached;    /* (budgets), then (backends) each */
    double *prefill_rate, *kv_capacity;                                              /* (backends) */
    double *rows, *hidden, *p;                                                       /* (n + 1, N_ROW), (n + 1, WIDTH), (n + 1) */
    double context[N_CONTEXT];
    int odd; /* something that is left to plain Python */
} Case;

/* --- reading what Python has ---------------------------------------------------------------------------------------- */

static int mismatch(void) {
    PyErr_SetString(PyExc_ValueError, "features, mask and what is seen are not of one size");
    return -1;
}

/* Copies exactly n doubles of an array; 0 for what is none. */
static int copied_at_once(PyObject *from, size_t n, double *into) {
    Py_buffer view;
    if (PyList_CheckExact(from) || PyTuple_CheckExact(from) || PyObject_GetBuffer(from, &view, PyBUF_SIMPLE | PyBUF_FORMAT) < 0) {
        PyErr_Clear();
        return 0;
    }
    int fits = strcmp(view.format, "d") == 0 && (size_t)view.len == n * sizeof(double);
    if (fits)
        memcpy(into, view.buf, n * sizeof(double));
    PyBuffer_Release(&view);
    return fits;
}

/* Copies exactly n numbers, or flags as 0 and 1. -1 with an exception. */
static int copied(PyObject *from, size_t n, double *into, int flags) {
    if (!flags && copied_at_once(from, n, into))
        return 0;
    PyObject *fast = PySequence_Fast(from, "a column is no sequence");
    if (fast == NULL)
        return -1;
    size_t i = 0;
    for (; i < n && (size_t)PySequence_Fast_GET_SIZE(fast) == n; i++) { /* asked anew: Python code may have run */
        PyObject *item = PySequence_Fast_GET_ITEM(fast, (Py_ssize_t)i);
        if (flags && (item == Py_True || item == Py_False))
            into[i] = item == Py_True;
        else if (!flags && PyFloat_CheckExact(item))
            into[i] = PyFloat_AS_DOUBLE(item);
        else {
            Py_INCREF(item);
            into[i] = flags ? PyObject_IsTrue(item) : PyFloat_AsDouble(item);
            Py_DECREF(item);
            if (into[i] == -1.0 && PyErr_Occurred())
                break;
        }
    }
    int wrong = i < n || (size_t)PySequence_Fast_GET_SIZE(fast) != n;
    Py_DECREF(fast);
    return !wrong ? 0 : PyErr_Occurred() ? -1 : mismatch();
}

/* Whether it is a tuple of n. */
static int is_tuple(PyObject *object, Py_ssize_t n) {
    if (PyTuple_Check(object) && PyTuple_GET_SIZE(object) == n)
        return 1;
    PyErr_SetString(PyExc_TypeError, "this is not what is seen");
    return 0;
}

/* The sizes, from what is seen. -1 with an exception. */
static int sized(Case *c, PyObject *seen) {
    if (!is_tuple(seen, N_SEEN) || !is_tuple(PyTuple_GET_ITEM(seen, SEEN_asked), N_ASKED) ||
        !is_tuple(PyTuple_GET_ITEM(seen, SEEN_caps), N_CAPS) || !is_tuple(PyTuple_GET_ITEM(seen, SEEN_fleet), N_FLEET) ||
        !is_tuple(PyTuple_GET_ITEM(seen, SEEN_constants), N_CONSTANT))
        return -1;
    Py_ssize_t backends = PyObject_Size(PyTuple_GET_ITEM(seen, SEEN_able));
    Py_ssize_t budgets = backends < 0 ? -1 : PyObject_Size(PyTuple_GET_ITEM(PyTuple_GET_ITEM(seen, SEEN_caps), CAPS_tokens));
    if (budgets < 0)
        return -1;
    if (backends > 1 << 14 || budgets > 1 << 10)
        return mismatch();
    c->backends = (size_t)backends;
    c->budgets = (size_t)budgets;
    c->n = c->backends * c->budgets;
    return 0;
}

static double *part(double **rest, size_t n) {
    double *begin = *rest;
    *rest += n;
    return begin;
}

static size_t room_of(const Case *c) {
    return c->n * N_FEATURE + (c->n + 1) * (N_ROW + WIDTH + 2) + c->budgets + 9 * c->backends;
}

static void spread(Case *c, double *scratch) {
    c->x = part(&scratch, c->n * N_FEATURE);
    c->rows = part(&scratch, (c->n + 1) * N_ROW);
    c->hidden = part(&scratch, (c->n + 1) * WIDTH);
    c->mask = part(&scratch, c->n + 1);
    c->p = part(&scratch, c->n + 1);
    c->told = part(&scratch, c->budgets);
    double **columns[] = {&c->usable, &c->prefill, &c->kv, &c->pace_first, &c->pace_each, &c->age, &c->cached, &c->prefill_rate, &c->kv_capacity};
    for (size_t i = 0; i < sizeof(columns) / sizeof(columns[0]); i++)
        *columns[i] = part(&scratch, c->backends);
}

static int filled(Case *c, PyObject *features, PyObject *mask, PyObject *seen) {
    PyObject *asked = PyTuple_GET_ITEM(seen, SEEN_asked), *caps = PyTuple_GET_ITEM(seen, SEEN_caps);
    PyObject *fleet = PyTuple_GET_ITEM(seen, SEEN_fleet), *constants = PyTuple_GET_ITEM(seen, SEEN_constants);
    c->rate = PyFloat_AsDouble(PyTuple_GET_ITEM(fleet, FLEET_arrival_rate));
    if (c->rate == -1.0 && PyErr_Occurred())
        return -1;
    size_t b = c->backends;
    int failed = copied(features, c->n * N_FEATURE, c->x, 0) < 0 || copied(mask, c->n + 1, c->mask, 1) < 0 ||
                 copied(asked, N_ASKED, c->asked, 0) < 0 || copied(PyTuple_GET_ITEM(caps, CAPS_told), c->budgets, c->told, 1) < 0 ||
                 copied(PyTuple_GET_ITEM(seen, SEEN_cached), b, c->cached, 0) < 0 ||
                 copied(PyTuple_GET_ITEM(fleet, FLEET_usable), b, c->usable, 1) < 0 ||
                 copied(PyTuple_GET_ITEM(fleet, FLEET_prefill_tokens), b, c->prefill, 0) < 0 ||
                 copied(PyTuple_GET_ITEM(fleet, FLEET_kv_tokens), b, c->kv, 0) < 0 ||
                 copied(PyTuple_GET_ITEM(fleet, FLEET_pace_first), b, c->pace_first, 0) < 0 ||
                 copied(PyTuple_GET_ITEM(fleet, FLEET_pace_each), b, c->pace_each, 0) < 0 ||
                 copied(PyTuple_GET_ITEM(fleet, FLEET_report_age_s), b, c->age, 0) < 0 ||
                 copied(PyTuple_GET_ITEM(constants, CONSTANT_prefill_rate), b, c->prefill_rate, 0) < 0 ||
                 copied(PyTuple_GET_ITEM(constants, CONSTANT_kv_capacity), b, c->kv_capacity, 0) < 0;
    return failed ? -1 : 0;
}

/* --- rows and context, as in inputs.py ------------------------------------------------------------------------------ */

static inline double bounded(double v) { return most(least(v, FAR), -FAR); }

/* The logarithm of a predicted time / a deadline; the least where none binds. */
static inline double against(Case *c, double predicted, double deadline) {
    return deadline == INFINITY ? -FAR : bounded(ln(&c->odd, over(&c->odd, predicted, deadline)));
}

/* The largest in a column of rows over what is allowed; 0 when nothing is. */
static double best_of(const Case *c, int column) {
    double best = -INFINITY;
    for (size_t a = 0; a < c->n; a++)
        if (c->mask[a] != 0.0)
            best = most(best, c->rows[a * N_ROW + (size_t)column]);
    return best > -INFINITY ? best : 0.0;
}

static void own_of(Case *c, const double *x, double *row) {
    double worth = x[FEATURE_quality] * x[FEATURE_p_on_time];
    double cost = over(&c->odd, x[FEATURE_price] * x[FEATURE_work_s] + x[FEATURE_pay], c->asked[ASKED_weight]);
    row[ROW_asks] = 1.0;
    row[ROW_quality] = x[FEATURE_quality];
    row[ROW_p_on_time] = x[FEATURE_p_on_time];
    row[ROW_worth] = worth;
    row[ROW_cost] = cost;
    row[ROW_score] = worth - cost; /* bounded when all are known */
    row[ROW_first] = against(c, x[FEATURE_ttft_s], c->asked[ASKED_ttft_s]);
    row[ROW_each] = against(c, x[FEATURE_tpot_s], c->asked[ASKED_tpot_s]);
    row[ROW_whole] = against(c, x[FEATURE_latency_s], c->asked[ASKED_e2e_s]);
    row[ROW_p_whole] = x[FEATURE_p_whole];
    row[ROW_tokens] = ln(&c->odd, x[FEATURE_tokens]) / 8.0;
    row[ROW_load] = least(x[FEATURE_load], FAR);
    row[ROW_harm] = least(over(&c->odd, x[FEATURE_harm], c->asked[ASKED_weight]), FAR);
}

static void shared_of(Case *c, size_t b) {
    double backlog = over(&c->odd, over(&c->odd, c->prefill[b], c->prefill_rate[b]), least(c->asked[ASKED_ttft_s], 10.0));
    double memory = over(&c->odd, c->kv[b], c->kv_capacity[b]), first = ln(&c->odd, c->pace_first[b]), each = ln(&c->odd, c->pace_each[b]);
    double age = tanh(c->age[b] / 2.0), cached = c->cached[b] / most(c->asked[ASKED_prompt], 1.0);
    for (size_t k = 0; k < c->budgets; k++) {
        double *row = c->rows + (b * c->budgets + k) * N_ROW;
        row[ROW_backlog] = least(backlog, FAR);
        row[ROW_memory] = least(memory, FAR);
        row[ROW_pace_first] = first;
        row[ROW_pace_each] = each;
        row[ROW_age] = age;
        row[ROW_told] = c->told[k];
        row[ROW_cached] = cached;
    }
}

static void rows_of(Case *c) {
    double least_work = INFINITY;
    for (size_t a = 0; a < c->n; a++) {
        own_of(c, c->x + a * N_FEATURE, c->rows + a * N_ROW);
        least_work = least(least_work, c->x[a * N_FEATURE + FEATURE_work_s]);
    }
    for (size_t b = 0; b < c->backends; b++)
        shared_of(c, b);
    double best_worth = best_of(c, ROW_worth), best_score = best_of(c, ROW_score);
    for (size_t a = 0; a < c->n; a++) {
        double *row = c->rows + a * N_ROW;
        row[ROW_worth_gap] = row[ROW_worth] - best_worth;
        row[ROW_score_gap] = most(row[ROW_score] - best_score, -FAR);
        row[ROW_score] = most(row[ROW_score], -FAR);
        row[ROW_cost] = least(row[ROW_cost], FAR);
        row[ROW_work] = least(ln(&c->odd, c->x[a * N_FEATURE + FEATURE_work_s] / most(least_work, 1e-9)), FAR);
    }
    memset(c->rows + c->n * N_ROW, 0, N_ROW * sizeof(double)); /* Shed */
}

static void context_of(Case *c) {
    double *context = c->context, most_work = 0.0, least_work = 0.0, usable = 0.0, tokens = 0.0, load = 0.0, cost = 0.0;
    memset(context, 0, sizeof(c->context));
    context[CONTEXT_weight] = ln(&c->odd, c->asked[ASKED_weight]);
    context[CONTEXT_spread] = c->asked[ASKED_sigma];
    if (c->n == 0)
        return;
    context[CONTEXT_least_load] = INFINITY;
    context[CONTEXT_most_load] = -INFINITY;
    for (size_t b = 0; b < c->backends; b++) {
        double low = INFINITY, high = -INFINITY;
        for (size_t a = b * c->budgets; a < (b + 1) * c->budgets; a++) {
            const double *x = c->x + a * N_FEATURE, *row = c->rows + a * N_ROW;
            low = least(low, x[FEATURE_work_s]);
            high = most(high, x[FEATURE_work_s]);
            tokens = most(tokens, x[FEATURE_tokens]);
            load += row[ROW_load];
            cost += row[ROW_cost];
            context[CONTEXT_least_load] = least(context[CONTEXT_least_load], row[ROW_load]);
            context[CONTEXT_most_load] = most(context[CONTEXT_most_load], row[ROW_load]);
        }
        most_work += 1.0 / most(high, 1e-9);
        least_work += 1.0 / most(low, 1e-9);
        usable += c->usable[b];
    }
    double rate = most(c->rate, 1e-3);
    context[CONTEXT_demand_most] = bounded(ln(&c->odd, rate / most_work));
    context[CONTEXT_demand_least] = bounded(ln(&c->odd, rate / least_work));
    context[CONTEXT_backends] = log((double)c->backends) / FAR;
    context[CONTEXT_usable] = usable / (double)c->backends;
    context[CONTEXT_mean_load] = load / (double)c->n;
    context[CONTEXT_mean_cost] = cost / (double)c->n;
    context[CONTEXT_best_score] = best_of(c, ROW_score);
    context[CONTEXT_prompt] = bounded(ln(&c->odd, over(&c->odd, most(c->asked[ASKED_prompt], 1.0), tokens)));
}

/* --- network, prior and probabilities, as in network.py ------------------------------------------------------------- */

static inline void add_times(double *restrict out, const double *restrict in, size_t n, const double (*restrict weights)[WIDTH]) {
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < WIDTH; j++)
            out[j] += in[i] * weights[i][j];
}

static inline void rectify(double *h) {
    for (size_t j = 0; j < WIDTH; j++)
        h[j] = h[j] < 0.0 ? 0.0 : h[j]; /* what is no number stays none */
}

/* The actor's part of each logit, into p. */
static void forward(Case *c, const Weights *w) {
    double common[WIDTH], pooled[WIDTH] = {0.0}, all = 0.0;
    memcpy(common, w->b1, sizeof(common));
    add_times(common, c->context, N_CONTEXT, w->wc);
    for (size_t a = 0; a <= c->n; a++) {
        double *h = c->hidden + a * WIDTH;
        memcpy(h, common, sizeof(common));
        add_times(h, c->rows + a * N_ROW, N_ROW, w->w1);
        rectify(h);
        for (size_t j = 0; j < WIDTH; j++)
            pooled[j] += c->mask[a] * h[j];
        all += c->mask[a];
    }
    for (size_t j = 0; j < WIDTH; j++)
        pooled[j] = over(&c->odd, pooled[j], all);
    memcpy(common, w->b2, sizeof(common));
    add_times(common, pooled, WIDTH, w->wp);
    for (size_t a = 0; a <= c->n; a++) {
        double g[WIDTH], out = w->b3[0];
        memcpy(g, common, sizeof(common));
        add_times(g, c->hidden + a * WIDTH, WIDTH, w->w2);
        rectify(g);
        for (size_t j = 0; j < WIDTH; j++)
            out += g[j] * w->w3[j][0];
        c->odd |= !isfinite(out);
        c->p[a] = out;
    }
}

/* Whether some backend of our own has a place, and a second of it no price. */
static int spare(const Case *c) {
    for (size_t a = 0; a < c->n; a++) {
        const double *x = c->x + a * N_FEATURE;
        if (c->mask[a] != 0.0 && x[FEATURE_load] < 1.0 && x[FEATURE_price] <= 0.0 && x[FEATURE_pay] <= 0.0)
            return 1;
    }
    return 0;
}

static double prior_of(const Case *c, const double *x, const double *parameters) {
    double crowd = most(x[FEATURE_load] - parameters[PARAMETER_crowd_from], 0.0);
    double factor = parameters[PARAMETER_price_factor] + parameters[PARAMETER_crowd_price] * crowd;
    double cost = factor * x[FEATURE_price] * x[FEATURE_work_s] + x[FEATURE_pay] + parameters[PARAMETER_harm_price] * x[FEATURE_harm];
    return x[FEATURE_quality] * x[FEATURE_p_on_time] - cost / c->asked[ASKED_weight];
}

/* How likely on time, of what is worth what is paid for it; -inf of all else. */
static double likely(const Case *c, size_t a) {
    const double *x = c->x + a * N_FEATURE;
    int worth = x[FEATURE_pay] <= c->asked[ASKED_weight] * x[FEATURE_quality] * x[FEATURE_p_on_time];
    return c->mask[a] != 0.0 && worth ? x[FEATURE_p_on_time] : -INFINITY;
}

static double stake_of(const Case *c) {
    double best = 0.0;
    for (size_t a = 0; a < c->n; a++)
        if (c->mask[a] != 0.0)
            best = most(best, c->x[a * N_FEATURE + FEATURE_quality]);
    return best;
}

/* Adds the prior to what the network gave, and sharpens. */
static void add_prior(Case *c, const double *parameters) {
    double best = -INFINITY, likeliest = -INFINITY, shed = parameters[PARAMETER_shed_score];
    double *score = c->hidden; /* which has been read */
    for (size_t a = 0; a < c->n; a++) {
        score[a] = c->mask[a] != 0.0 ? prior_of(c, c->x + a * N_FEATURE, parameters) : -INFINITY;
        best = most(best, score[a]);
        likeliest = most(likeliest, likely(c, a));
    }
    double stake = stake_of(c);
    int calm = spare(c);
    for (size_t a = 0; calm && best < shed && a < c->n; a++) /* nothing is worth it: where it ends soonest */
        score[a] = likeliest > -INFINITY && likely(c, a) == likeliest ? -c->x[a * N_FEATURE + FEATURE_latency_s] : -INFINITY;
    score[c->n] = calm ? -NEVER * TEMPERATURE : shed;
    for (size_t a = 0; a <= c->n; a++)
        c->p[a] = (score[a] / TEMPERATURE + stake * c->p[a]) * parameters[PARAMETER_sharpness];
}

static void softmax(Case *c) {
    double top = -INFINITY, total = 0.0;
    for (size_t a = 0; a <= c->n; a++)
        top = most(top, c->p[a]);
    for (size_t a = 0; a <= c->n; a++) {
        c->p[a] = c->p[a] > -INFINITY ? exp(most(c->p[a] - top, -700.0)) : 0.0;
        total += c->p[a];
    }
    for (size_t a = 0; a <= c->n; a++)
        c->p[a] = over(&c->odd, c->p[a], total);
    c->odd |= !isfinite(total);
}

/* --- the object ----------------------------------------------------------------------------------------------------- */

static PyObject *list_of(const double *numbers, size_t n) {
    PyObject *list = PyList_New((Py_ssize_t)n);
    for (size_t i = 0; list != NULL && i < n; i++) {
        PyObject *number = PyFloat_FromDouble(numbers[i]);
        if (number == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, (Py_ssize_t)i, number);
    }
    return list;
}

static PyObject *decided(const Actor *self, Case *c) {
    rows_of(c);
    context_of(c);
    forward(c, &self->weights);
    add_prior(c, self->parameters);
    softmax(c);
    return c->odd ? Py_NewRef(Py_None) : list_of(c->p, c->n + 1);
}

PyDoc_STRVAR(act_doc, "act(features, mask, seen) -> the probability of each action, or None where plain Python has to say what is wrong");

static PyObject *Actor_act(Actor *self, PyObject *const *args, Py_ssize_t nargs) {
    if (nargs != 3) {
        PyErr_SetString(PyExc_TypeError, "act(features, mask, seen)");
        return NULL;
    }
    Case c;
    c.odd = 0;
    if (sized(&c, args[2]) < 0)
        return NULL;
    size_t size = room_of(&c), had = self->scratch_size;
    double *scratch = self->scratch;
    self->scratch = NULL;
    self->scratch_size = 0;
    if (had < size) {
        PyMem_Free(scratch);
        scratch = PyMem_Malloc(size * sizeof(double));
        if (scratch == NULL)
            return PyErr_NoMemory();
        had = size;
    }
    spread(&c, scratch);
    PyObject *result = filled(&c, args[0], args[1], args[2]) < 0 ? NULL : decided(self, &c);
    PyMem_Free(self->scratch); /* of a call within this one */
    self->scratch = scratch;
    self->scratch_size = had;
    return result;
}

static PyObject *Actor_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    Py_buffer weights;
    double p[N_PARAMETER];
    if (kwargs != NULL && PyDict_GET_SIZE(kwargs)) {
        PyErr_SetString(PyExc_TypeError, "Actor takes no keyword arguments");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "y*(dddddd)", &weights, &p[0], &p[1], &p[2], &p[3], &p[4], &p[5]))
        return NULL;
    Actor *self = NULL;
    if (weights.len != sizeof(Weights))
        PyErr_SetString(PyExc_ValueError, "these are not a network's weights");
    else
        self = (Actor *)type->tp_alloc(type, 0);
    if (self != NULL) {
        memcpy(&self->weights, weights.buf, sizeof(Weights));
        memcpy(self->parameters, p, sizeof(p));
    }
    PyBuffer_Release(&weights);
    return (PyObject *)self;
}

static void Actor_dealloc(Actor *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyMem_Free(self->scratch);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"act", (PyCFunction)(void (*)(void))Actor_act, METH_FASTCALL, act_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot type_slots[] = {
    {Py_tp_new, Actor_new},
    {Py_tp_dealloc, Actor_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_doc, "Actor(a network's weights as doubles, one after another, parameters)"},
    {0, NULL},
};

static PyType_Spec spec = {"bestserve.policy._actor.Actor", sizeof(Actor), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE, type_slots};

static int executed(PyObject *module) {
    PyObject *layout = Py_BuildValue("((iiddd)NNNNNNNNN)", INPUTS, WIDTH, FAR, TEMPERATURE, NEVER, names_of(row_names),
                                     names_of(context_names), names_of(feature_names), names_of(parameter_names), names_of(seen_names),
                                     names_of(asked_names), names_of(caps_names), names_of(fleet_names), names_of(constant_names));
    int failed = layout == NULL ? -1 : PyModule_AddObjectRef(module, "LAYOUT", layout);
    Py_XDECREF(layout);
    if (failed < 0)
        return -1;
    PyObject *type = PyType_FromModuleAndSpec(module, &spec, NULL);
    failed = type == NULL ? -1 : PyModule_AddType(module, (PyTypeObject *)type);
    Py_XDECREF(type);
    return failed;
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, executed}, {0, NULL}};

static struct PyModuleDef module = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_actor",
    .m_doc = "One decision of the learned policy, compiled.",
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__actor(void) { return PyModuleDef_Init(&module); }
