# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The busiest few steps of an event's way, compiled. What each must do is said where its twin in Python is:

* `columns`: `raven.adapter.columns`
* `Side`: `raven.model.book`
* `ElementEncoder`: `raven.codec.encoder`
* `Lane`, `send_all`: `raven.grpc.lane`, `raven.broker.audience`

Everything out of the ordinary is left to the twin: these know numbers that are plain floats, columns that are tuples or lists,
and a socket that takes something.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_AsDouble, PyFloat_CheckExact
from cpython.list cimport PyList_CheckExact
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_CheckExact
from libc.math cimport INFINITY
from libc.string cimport memcpy, memmove


cdef extern from "Python.h":
    list PyList_New(Py_ssize_t)
    void PyList_SET_ITEM(list, Py_ssize_t, PyObject*)
    tuple PyTuple_New(Py_ssize_t)
    void PyTuple_SET_ITEM(tuple, Py_ssize_t, PyObject*)
    PyObject* PyFloat_FromDouble(double) except NULL
    bint PyLong_Check(object)
    bint PyUnicode_Check(object)
    PyObject** PySequence_Fast_ITEMS(object)
    Py_ssize_t PySequence_Fast_GET_SIZE(object)
    const char* PyUnicode_AsUTF8AndSize(object, Py_ssize_t*) except NULL


cdef extern from *:
    """
    #include <stdint.h>
    #include <errno.h>
    #include <sys/types.h>
    #include <sys/socket.h>
    #ifndef MSG_NOSIGNAL
    #define MSG_NOSIGNAL 0
    #endif
    /* Little-endian stores: protobuf's fixed fields. A compiler makes one instruction of them. */
    static inline char *raven_put64(char *at, uint64_t value) {
        for (int i = 0; i < 8; i++) at[i] = (char)(value >> (8 * i));
        return at + 8;
    }
    static inline char *raven_put32(char *at, uint32_t value) {  /* the network's order: HTTP/2 and gRPC */
        for (int i = 0; i < 4; i++) at[i] = (char)(value >> (24 - 8 * i));
        return at + 4;
    }
    static inline char *raven_put_double(char *at, double value) {
        uint64_t bits;
        memcpy(&bits, &value, 8);
        return raven_put64(at, bits);
    }
    static inline char *raven_put_varint(char *at, uint64_t value) {
        while (value > 127) { *at++ = (char)(value | 128); value >>= 7; }
        *at++ = (char)value;
        return at;
    }
    static inline Py_ssize_t raven_varint_size(uint64_t value) {
        Py_ssize_t size = 1;
        while (value > 127) { size++; value >>= 7; }
        return size;
    }
    #ifndef RAVEN_BUILT_FROM
    #define RAVEN_BUILT_FROM ""
    #endif
    static inline int raven_is_finite(double value) { return value - value == 0.0; }
    static inline Py_ssize_t raven_send(int fd, const char *data, Py_ssize_t size) {
        return send(fd, data, (size_t)size, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    """
    const char* RAVEN_BUILT_FROM
    char* put64 "raven_put64"(char* at, unsigned long long value)
    char* put32 "raven_put32"(char* at, unsigned int value)
    char* put_double "raven_put_double"(char* at, double value)
    char* put_varint "raven_put_varint"(char* at, unsigned long long value)
    Py_ssize_t varint_size "raven_varint_size"(unsigned long long value)
    bint is_finite "raven_is_finite"(double value)
    Py_ssize_t send_some "raven_send"(int fd, const char* data, Py_ssize_t size)


BUILT_FROM = RAVEN_BUILT_FROM.decode()


# ---- the book

cdef enum:
    MANY_LEVELS = 1024  # of one change: as many are sorted in with all others, not each moved to its place


cdef class Side:
    """Bids or asks of a book: keys ascending to the best one, which is where nearly every change is.

    A key is a bid's price, or an ask's price with the other sign: so the best is the greatest on either side.
    """

    cdef double* _keys
    cdef double* _sizes
    cdef Py_ssize_t _count
    cdef Py_ssize_t _capacity
    cdef double _sign

    def __init__(self, bint bids, prices=(), sizes=()):
        self._sign = 1.0 if bids else -1.0
        self._merge({}, prices, sizes)

    def __dealloc__(self):
        PyMem_Free(self._keys)
        PyMem_Free(self._sizes)

    def __len__(self):
        return self._count

    @property
    def bound(self):
        """The best price; worse than any where there is none."""
        return self._sign * (self._keys[self._count - 1] if self._count else -INFINITY)

    def tighten(self):
        """The same: here it is always exact."""
        return self.bound

    def set(self, prices, sizes):
        """Set levels to new sizes; size 0 removes one. Raises ValueError where there are more prices than sizes, or fewer."""
        if len(prices) != len(sizes):
            raise ValueError(f"{len(prices)} prices and {len(sizes)} sizes")
        prices, plain = as_floats(prices), as_floats(sizes)
        if plain is not sizes:  # asking a number for its value may have changed the prices
            prices, sizes = as_floats(prices), plain
        cdef Py_ssize_t count = PySequence_Fast_GET_SIZE(prices)  # from here on nothing runs that could change them, or this
        if PySequence_Fast_GET_SIZE(sizes) != count:
            raise ValueError(f"{count} prices and {len(sizes)} sizes, by now")
        if count > MANY_LEVELS:
            self._merge(self.levels(), prices, sizes)
            return
        self._reserve(self._count + count)
        cdef PyObject** price_items = PySequence_Fast_ITEMS(prices)
        cdef PyObject** size_items = PySequence_Fast_ITEMS(sizes)
        cdef Py_ssize_t i
        cdef Py_ssize_t place = self._count
        cdef double key, size, previous = -INFINITY
        for i in range(count):
            key = self._sign * PyFloat_AS_DOUBLE(<object>price_items[i])
            size = PyFloat_AS_DOUBLE(<object>size_items[i])
            if key == key:  # what is no number has no place among them
                place = self._set_one(key, size, place if key < previous else self._count)
                previous = key

    cdef Py_ssize_t _set_one(self, double key, double size, Py_ssize_t high):
        """Where it stands, or stood; `high`: no key from there on is smaller."""
        cdef double* keys = self._keys
        cdef Py_ssize_t count = self._count, low = high - 1, step = 1, middle
        while low >= 0 and keys[low] >= key:  # in steps that double, from the best one down
            high = low
            low -= step
            step *= 2
        if low < -1:
            low = -1
        while high - low > 1:  # keys[low] < key <= keys[high]
            middle = (low + high) // 2
            if keys[middle] >= key:
                high = middle
            else:
                low = middle
        if high < count and keys[high] == key:
            if size != 0.0:
                self._sizes[high] = size
                return high
            self._count = count - 1
            memmove(keys + high, keys + high + 1, (count - high - 1) * sizeof(double))
            memmove(self._sizes + high, self._sizes + high + 1, (count - high - 1) * sizeof(double))
        elif size != 0.0:
            memmove(keys + high + 1, keys + high, (count - high) * sizeof(double))
            memmove(self._sizes + high + 1, self._sizes + high, (count - high) * sizeof(double))
            keys[high] = key
            self._sizes[high] = size
            self._count = count + 1
        return high

    cdef int _reserve(self, Py_ssize_t count) except -1:
        if count <= self._capacity:
            return 0
        cdef Py_ssize_t capacity = max(2 * self._capacity, count)
        cdef double* keys = <double*>PyMem_Realloc(self._keys, capacity * sizeof(double))
        if keys is NULL:
            raise MemoryError
        self._keys = keys
        cdef double* sizes = <double*>PyMem_Realloc(self._sizes, capacity * sizeof(double))
        if sizes is NULL:
            raise MemoryError
        self._sizes = sizes
        self._capacity = capacity
        return 0

    cdef int _merge(self, dict levels, prices, sizes) except -1:
        """Hold these levels with the changes; nothing is changed where one is no number. Of a price that is there twice the last
        counts.
        """
        for price, size in zip(prices, sizes, strict=True):
            levels[as_double(price)] = as_double(size)
        cdef list ordered = sorted([(self._sign * price, size) for price, size in levels.items() if size and price == price])
        cdef Py_ssize_t i
        self._reserve(len(ordered))
        for i, (key, size) in enumerate(ordered):
            self._keys[i] = key
            self._sizes[i] = size
        self._count = len(ordered)
        return 0

    def columns(self, Py_ssize_t depth):
        """Prices and sizes from the best one on; the first `depth`, or all with 0."""
        cdef Py_ssize_t count = min(depth, self._count) if depth > 0 else self._count, i
        cdef list prices = PyList_New(count), sizes = PyList_New(count)
        for i in range(count):
            PyList_SET_ITEM(prices, i, PyFloat_FromDouble(self._sign * self._keys[self._count - 1 - i]))
            PyList_SET_ITEM(sizes, i, PyFloat_FromDouble(self._sizes[self._count - 1 - i]))
        return prices, sizes

    def levels(self):
        """All of them by their price."""
        return {self._sign * self._keys[i]: self._sizes[i] for i in range(self._count)}


def columns(levels):
    """Prices and sizes of levels, each of which is a pair, as two tuples."""
    levels = tuple(levels)  # which nothing changes while a level is looked at
    cdef Py_ssize_t count = PySequence_Fast_GET_SIZE(levels), i
    cdef PyObject** items = PySequence_Fast_ITEMS(levels)
    cdef tuple prices = PyTuple_New(count), sizes = PyTuple_New(count)
    cdef object level
    for i in range(count):
        level = <object>items[i]
        if not PyTuple_CheckExact(level):
            level = tuple(level)
        if PySequence_Fast_GET_SIZE(level) != 2:
            raise ValueError(f"level {i} is {level!r}, which is no pair of price and size")
        set_item(prices, i, PySequence_Fast_ITEMS(level)[0])
        set_item(sizes, i, PySequence_Fast_ITEMS(level)[1])
    return prices, sizes


cdef inline void set_item(tuple column, Py_ssize_t at, PyObject* item):
    Py_INCREF(<object>item)
    PyTuple_SET_ITEM(column, at, item)


cdef inline bint is_column(object column):
    return PyTuple_CheckExact(column) or PyList_CheckExact(column)


cdef object as_floats(object column):
    """A tuple or a list of nothing but floats; a new one where this is none."""
    cdef Py_ssize_t i
    if is_column(column):
        for i in range(PySequence_Fast_GET_SIZE(column)):
            if not PyFloat_CheckExact(<object>PySequence_Fast_ITEMS(column)[i]):
                break
        else:
            return column
    return tuple([as_double(number) for number in tuple(column)])


cdef inline double as_double(object number) except? -1.0:
    return PyFloat_AS_DOUBLE(number) if PyFloat_CheckExact(number) else PyFloat_AsDouble(number)


# ---- an event's bytes


cdef class ElementEncoder:
    """Encodes trades, quotes and changes of a book as `events` elements.

    Args:
        prefix: topic and epoch, as fields of MarketEvent.
        trade, quote, delta: the classes of these payloads.
        general: encodes everything else, and whatever is out of the ordinary.
    """

    cdef bytes _prefix
    cdef object _trade, _quote, _delta, _general

    def __init__(self, bytes prefix not None, trade, quote, delta, general):
        self._prefix = prefix
        self._trade, self._quote, self._delta, self._general = trade, quote, delta, general

    def encode(self, event, sequence):
        """The `events` element of `event` under `sequence`."""
        payload = event.payload
        cdef object kind = type(payload), element = None
        if event.flags == 0:
            try:
                if kind is self._trade:
                    element = self._encode_trade(event, payload, sequence)
                elif kind is self._delta:
                    element = self._encode_delta(event, payload, sequence)
                elif kind is self._quote:
                    element = self._encode_quote(event, payload, sequence)
            except (TypeError, ValueError, ArithmeticError, AttributeError):
                pass  # the general way says what is wrong
        return self._general(event, sequence) if element is None else element

    cdef bytes _begin(self, event, sequence, Py_ssize_t tail, char** at):
        """An element with room for `tail` bytes behind its stamps; None where the first of its times is missing, or one of its
        numbers is no integer: C would take 1.5 for 1.
        """
        received, venue = event.received_ts_ns, event.venue_ts_ns
        if not (PyLong_Check(sequence) and PyLong_Check(received) and (venue is None or PyLong_Check(venue))):
            return None
        cdef long long received_ts = received, venue_ts = 0 if venue is None else venue
        cdef unsigned long long number = sequence
        if received_ts == 0:
            return None
        cdef Py_ssize_t prefix = PyBytes_GET_SIZE(self._prefix)
        cdef Py_ssize_t size = prefix + (18 if venue is None else 27) + tail
        cdef bytes element = PyBytes_FromStringAndSize(NULL, 1 + varint_size(size) + size)
        cdef char* to = PyBytes_AS_STRING(element)
        to[0] = 0x0A
        to = put_varint(to + 1, size)
        memcpy(to, PyBytes_AS_STRING(self._prefix), prefix)
        to += prefix
        to[0] = 0x19
        to = put64(to + 1, number)
        if venue is not None:
            to[0] = 0x21
            to = put64(to + 1, <unsigned long long>venue_ts)
        to[0] = 0x29
        at[0] = put64(to + 1, <unsigned long long>received_ts)
        return element

    cdef bytes _encode_trade(self, event, payload, sequence):
        price_object, size_object, trade_id, side = payload.price, payload.size, payload.trade_id, payload.aggressor
        if not (PyFloat_CheckExact(price_object) and PyFloat_CheckExact(size_object)) or payload.first_trade_id:
            return None
        if not (PyLong_Check(side) and PyUnicode_Check(trade_id)):
            return None
        cdef double price = PyFloat_AS_DOUBLE(price_object), size = PyFloat_AS_DOUBLE(size_object)
        cdef long aggressor = side
        cdef Py_ssize_t id_size
        cdef const char* id_text = PyUnicode_AsUTF8AndSize(trade_id, &id_size)
        if not (is_finite(price) and is_finite(size) and 0 < id_size < 100 and 0 < aggressor < 128):
            return None
        cdef char* at = NULL
        cdef bytes element = self._begin(event, sequence, 24 + id_size, &at)
        if element is None:
            return None
        at[0], at[1], at[2] = 0x52, <char>(22 + id_size), 0x09
        at = put_double(at + 3, price)
        at[0] = 0x11
        at = put_double(at + 1, size)
        at[0], at[1], at[2], at[3] = 0x18, <char>aggressor, 0x22, <char>id_size
        memcpy(at + 4, id_text, id_size)
        return element

    cdef bytes _encode_quote(self, event, payload, sequence):
        cdef tuple numbers = (payload.bid_price, payload.bid_size, payload.ask_price, payload.ask_size)
        cdef object number
        for number in numbers:
            if not PyFloat_CheckExact(number) or not is_finite(PyFloat_AS_DOUBLE(number)):
                return None
        cdef char* at = NULL
        cdef bytes element = self._begin(event, sequence, 38, &at)
        if element is None:
            return None
        at[0], at[1] = 0x5A, 36
        at += 2
        cdef char tag = 0x09
        for number in numbers:
            at[0] = tag
            at = put_double(at + 1, PyFloat_AS_DOUBLE(number))
            tag += 8
        return element

    cdef bytes _encode_delta(self, event, payload, sequence):
        bid_price, bid_size = payload.bid_price, payload.bid_size
        ask_price, ask_size = payload.ask_price, payload.ask_size
        last_id = payload.venue_sequence
        if not (is_column(bid_price) and is_column(bid_size) and is_column(ask_price) and is_column(ask_size)):
            return None
        if not PyLong_Check(last_id):
            return None
        cdef unsigned long long venue_sequence = last_id
        cdef Py_ssize_t bids = PySequence_Fast_GET_SIZE(bid_price), asks = PySequence_Fast_GET_SIZE(ask_price)
        if venue_sequence == 0 or PySequence_Fast_GET_SIZE(bid_size) != bids or PySequence_Fast_GET_SIZE(ask_size) != asks:
            return None
        cdef Py_ssize_t body = 2 * column_bytes(bids) + 2 * column_bytes(asks) + 9
        cdef char* at = NULL
        cdef bytes element = self._begin(event, sequence, 1 + varint_size(body) + body, &at)
        if element is None:
            return None
        at[0] = 0x6A
        at = put_varint(at + 1, body)
        at = put_column(at, 0x0A, bid_price)
        if at is not NULL:
            at = put_column(at, 0x12, bid_size)
        if at is not NULL:
            at = put_column(at, 0x1A, ask_price)
        if at is not NULL:
            at = put_column(at, 0x22, ask_size)
        if at is NULL:
            return None
        at[0] = 0x29
        put64(at + 1, venue_sequence)
        return element


cdef inline Py_ssize_t column_bytes(Py_ssize_t count):
    return 1 + varint_size(8 * count) + 8 * count if count else 0


cdef char* put_column(char* at, char tag, object column):
    """A packed field; NULL where something in it is no plain and finite float."""
    cdef Py_ssize_t count = PySequence_Fast_GET_SIZE(column), i
    cdef PyObject** items = PySequence_Fast_ITEMS(column)
    cdef double number
    if count:
        at[0] = tag
        at = put_varint(at + 1, 8 * count)
    for i in range(count):
        if not PyFloat_CheckExact(<object>items[i]):
            return NULL
        number = PyFloat_AS_DOUBLE(<object>items[i])
        if not is_finite(number):
            return NULL
        at = put_double(at, number)
    return at


# ---- the way into the connections


cdef class Lane:
    """Writes whole messages of one stream as long as nothing is in their way: `raven.grpc.lane` has its twin, and says more."""

    cdef object _h2, _stream, _state, _gate, _end
    cdef object _write, _held, _fileno
    cdef object _encrypt, _read, _backlog, _protocol, _wrapped, _push
    cdef int _number
    cdef public bint closed

    def __init__(self, h2, stream, gate, way):
        self._h2, self._stream, self._gate = h2, stream, gate
        self._state, self._end = stream.state_machine, type(stream.state_machine.state).CLOSED  # h2's StreamState
        self._number = stream.stream_id
        self._write, self._held, self._fileno = way.write, way.held, way.fileno
        tls = way.tls
        if tls is not None:
            self._encrypt, self._read, self._push = tls.encrypt, tls.read, tls.push
            self._backlog, self._protocol, self._wrapped = tls.backlog, tls.protocol, tls.wrapped

    def send(self, bytes message not None, dict shared not None):
        """Write a message; False where something is in its way, and nothing was done."""
        frame = self._take(message, shared.get(self._number))
        if frame is None:
            return False
        shared[self._number] = frame
        return True

    cdef bytes _take(self, bytes message, bytes frame):
        """The frame that was written; None where there is something in the way.

        Args:
            frame: of this very message on a stream of the same number, if there is one.
        """
        cdef Py_ssize_t size = PyBytes_GET_SIZE(message) + 5
        if self.closed or self._held or not self._gate.open:
            return None
        cdef Py_ssize_t of_connection = self._h2.outbound_flow_control_window
        cdef Py_ssize_t of_stream = self._stream.outbound_flow_control_window
        if size > of_connection or size > of_stream or size > <Py_ssize_t>self._h2.max_outbound_frame_size:
            return None
        if self._state.state is self._end:
            return None
        if frame is None:
            frame = make_frame(self._number, message)
        self._h2.outbound_flow_control_window = of_connection - size
        self._stream.outbound_flow_control_window = of_stream - size
        cdef Py_ssize_t sent = self._send(frame)
        if sent == 0:
            self._write(frame)
        elif sent < PyBytes_GET_SIZE(frame):
            self._write(memoryview(frame)[sent:])
        return frame

    cdef Py_ssize_t _send(self, bytes data) except -1:
        """As much as can be sent at once."""
        if self._fileno is None:
            return 0
        if self._encrypt is None:
            return send_now(self._fileno, data)
        if self._backlog or self._protocol._state is not self._wrapped:
            return 0
        cdef Py_ssize_t taken, sent
        try:
            taken = self._encrypt(data)
        except OSError:  # SSLError is one: the transport will see
            return 0
        cdef bytes encrypted = self._read() or b""
        sent = send_now(self._fileno, encrypted)
        if sent < PyBytes_GET_SIZE(encrypted):
            self._push(memoryview(encrypted)[sent:])
        return taken


cdef Py_ssize_t send_now(object fileno, bytes data) except -1:
    """0 where the socket is full or broken, which the transport will see."""
    cdef int descriptor = fileno()
    cdef Py_ssize_t sent = send_some(descriptor, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data)) if descriptor >= 0 else 0
    return sent if sent > 0 else 0


cdef bytes make_frame(int number, bytes message):
    """A DATA frame (RFC 9113, 4.1) with the whole message behind gRPC's prefix."""
    cdef Py_ssize_t length = PyBytes_GET_SIZE(message), size = length + 5
    cdef bytes frame = PyBytes_FromStringAndSize(NULL, 9 + size)
    cdef char* at = PyBytes_AS_STRING(frame)
    at[0], at[1], at[2], at[3], at[4] = <char>(size >> 16), <char>(size >> 8), <char>size, 0, 0
    put32(at + 5, number)
    at[9] = 0
    put32(at + 10, <unsigned int>length)
    memcpy(at + 14, PyBytes_AS_STRING(message), length)
    return frame


def send_all(dict lanes not None, bytes message not None):
    """Write a message into each lane that takes it; a list of the keys of the others."""
    cdef list late = []
    cdef dict shared = {}
    cdef bytes frame, common = None
    cdef int number = -1
    cdef Lane lane
    for key, value in lanes.items():
        if type(value) is not Lane:
            if not value.send(message, shared):
                late.append(key)
            continue
        lane = <Lane>value
        frame = lane._take(message, common if lane._number == number else None)
        if frame is None:
            late.append(key)
        else:
            common, number = frame, lane._number  # most clients have but one stream, and so the same number
    return late
