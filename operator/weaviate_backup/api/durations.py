"""Durations and sizes as people write and read them: `90m`, `1h30m`, `1.2Gi`. Values in, values out."""

import re

_UNITS_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_UNITS_BYTES = {"": 1, **{f"{prefix}i": 1 << 10 * power for power, prefix in enumerate("KMGT", start=1)}}
_UNITS_BYTES |= {"k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_PART = re.compile(r"([0-9]+)(ms|s|m|h)")


def parse_duration(text: str) -> float:
    """Seconds of a duration as our schemas allow it (`1h30m`); anything else is a ValueError."""
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is no duration; write it as 90m or 24h")
    return sum(int(number) * _UNITS_SECONDS[unit] for number, unit in parts)


def show_duration(seconds: float) -> str:
    """The two largest units: `42s`, `3m12s`, `2h5m`, `1d3h`."""
    whole = max(0, int(seconds))
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "m"), (rest, "s")]
    first = next((index for index, (number, _) in enumerate(parts) if number), len(parts) - 1)
    return "".join(f"{number}{unit}" for number, unit in parts[first : first + 2] if number) or "0s"


def parse_bytes(text: str) -> int:
    """Bytes of a size as resource quantities are written (`50Mi`, `1.5G`, `4096`); anything else is a ValueError."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([A-Za-z]*)", text)
    if match is None or match[2] not in _UNITS_BYTES:
        raise ValueError(f"{text!r} is no size; write it as 50Mi or 1G")
    return int(float(match[1]) * _UNITS_BYTES[match[2]])


def show_bytes(size_bytes: int) -> str:
    """Three significant digits in binary units, as resource quantities are written: `512`, `1.25Mi`, `37.4Gi`."""
    if size_bytes < 1024:
        return str(size_bytes)
    value, unit = float(size_bytes), ""
    for unit in ("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"):  # noqa: B007 - the last one reached is the answer
        value /= 1024
        if value < 1000:
            break
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{digits}f}{unit}"
