# What callers give, looked at: a ValueError says what was expected.


cdef double _stickiness(stickiness) except? -2:
    if stickiness is not None and not 0 <= stickiness < 1:
        raise ValueError(f"stickiness: expected a number in [0, 1), not {stickiness}")
    return -1 if stickiness is None else stickiness


cdef uint64_t _seed(seed) except? 0:
    return <uint64_t>_count("seed", seed, 0, (1 << 64) - 1)


cdef _count(name, value, low, high):
    try:
        number = operator.index(value)
    except TypeError:
        number = low - 1
    if not low <= number <= high:
        raise ValueError(f"{name}: expected a whole number from {low} to {high}, not {value!r}")
    return number


cdef bytes _choices(choices):
    try:
        return bytes(choices)
    except (TypeError, ValueError):
        raise ValueError(f"choices: expected fibre numbers below {MAX_FIBRES}, not {choices!r}") from None
