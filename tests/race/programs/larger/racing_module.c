/* A C extension of Python that counts after it has released the interpreter's lock.
 *
 * fails: status
 * threads: 2
 * module: racing_module.py
 * notes: the driver's assertion fails; the right one counts while it has the lock
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

static long total;

static PyObject *racing_add(PyObject *self, PyObject *number) {
    long n = PyLong_AsLong(number);
    (void)self;
    if (n == -1 && PyErr_Occurred())
        return NULL;
#ifdef FIXED
    total += n;
#else
    Py_BEGIN_ALLOW_THREADS;
    total += n;
    Py_END_ALLOW_THREADS;
#endif
    Py_RETURN_NONE;
}

static PyObject *racing_total(PyObject *self, PyObject *unused) {
    (void)self;
    (void)unused;
    return PyLong_FromLong(total);
}

static PyMethodDef methods[] = {
    {"add", racing_add, METH_O, "Add a number to the total."},
    {"total", racing_total, METH_NOARGS, "The sum of all that was added."},
    {0},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "racing_module",
    .m_size = -1,
    .m_methods = methods,
};

PyMODINIT_FUNC PyInit_racing_module(void) {
    return PyModule_Create(&module);
}
