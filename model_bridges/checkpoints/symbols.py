"""A pickle read as symbols: nothing in it is looked up, imported or called.

A pickle is a program for a small stack machine. `read_symbols` runs the opcodes that Python writes for
plain data, tensors and modules in protocols 2 to 5, and gives every other opcode back as an error. A
global becomes a `Symbol`, a name without a meaning, and only if it is on the list of the caller; calling
it leaves a `Call`, a record of what would have been called. The machine is a loop, so depth costs no
stack of the interpreter; keys are text, so no hash runs through nested data; and a `Meter` charges for
every object before it is made, so that a file cannot ask for more memory than its reader grants. Bytes
are views of the file. Values: None, bool, int, float, str, memoryview, tuple, list, dict and set with
keys of text, `Symbol`, `Call`, and what `on_call` puts in place of a `Call`.
"""

import struct
from collections.abc import Callable, Collection
from typing import Any, no_type_check

from model_bridges.checkpoints.errors import UnsafeCheckpointError

# Upper bounds of what an object takes, in bytes.
SLOT, ENTRY, OBJECT, CONTAINER = 32, 120, 64, 320
LONGEST_NAME = 200
LONGEST_INTEGER = 16  # bytes; the longest in a genuine file has 10


# A hook that checks types at run time would cost more than the opcodes: classes here opt out.
@no_type_check
class Meter:
    """Memory that objects may take, in bytes."""

    def __init__(self, limit: int) -> None:
        self.limit, self.left = limit, limit

    def take(self, amount: int) -> None:
        """Charge for an object that is about to be made.

        Raises:
            UnsafeCheckpointError: If the limit is passed.
        """
        self.left -= amount
        if self.left < 0:
            raise UnsafeCheckpointError(
                f"the file describes more than {self.limit / 2**20:g} MB of objects beside its "
                "tensors; a checkpoint has far fewer. It is damaged, or made to fill the memory."
            )


@no_type_check
class Symbol:
    """A global, `module.name`: a name and nothing else."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


@no_type_check
class Call:
    """What the file wants called or made: `function(*arguments)`, then items and state put into it."""

    __slots__ = ("arguments", "function", "items", "state")

    def __init__(self, function: str, arguments: tuple) -> None:
        self.function, self.arguments = function, arguments
        self.items: dict[str, Any] = {}
        self.state: Any = None


@no_type_check
class Persistent:
    """An object that the file keeps elsewhere, known by its identifier."""

    __slots__ = ("identifier",)

    def __init__(self, identifier: Any) -> None:
        self.identifier = identifier


def read_symbols(
    data: memoryview,
    start: int = 0,
    *,
    known: Collection[str],
    meter: Meter,
    on_call: Callable[[Call], Any] | None = None,
    persistent: bool = False,
) -> tuple[Any, int]:
    """The value that one pickle describes, and where the pickle ends.

    Args:
        data: The file.
        start: Where the pickle begins.
        known: Globals it may name, `module.name`.
        meter: Charged for every object.
        on_call: Replaces a call by a value, as soon as it is read.
        persistent: Whether it may refer to objects kept elsewhere.

    Raises:
        UnsafeCheckpointError: If it is cut short, names another global, or uses an opcode that is not
            needed for plain data.
    """
    machine = _Machine(data, start, known, meter, on_call, persistent)
    return machine.run(), machine.position


_MARK = object()


@no_type_check
class _Machine:
    def __init__(
        self,
        data: memoryview,
        position: int,
        known: Collection[str],
        meter: Meter,
        on_call: Callable[[Call], Any] | None,
        persistent: bool,
    ) -> None:
        self.data, self.position, self.known, self.meter = data, position, known, meter
        self.on_call, self.persistent = on_call, persistent
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        self.meter.take(4 * CONTAINER)
        if self.take(1)[0] != 0x80:
            raise self.error("does not begin as a binary pickle")
        self.protocol()
        while True:
            code = self.take(1)[0]
            if code == 0x2E:  # STOP
                value = self.pop()
                if self.stack:
                    raise self.error("ends with objects left over")
                return value
            action = _ACTIONS.get(code)
            if action is None:
                raise self.error(f"uses opcode 0x{code:02x}, which a checkpoint does not need,")
            self.meter.take(SLOT)
            action(self)

    def error(self, what: str) -> UnsafeCheckpointError:
        return UnsafeCheckpointError(
            f"the pickle {what} at byte {self.position}: it is damaged, or not a checkpoint of the "
            "official format. Fetch it again and compare its size and SHA-256."
        )

    # What opcodes read.

    def take(self, size: int) -> memoryview:
        end = self.position + size
        if end > len(self.data):
            raise self.error("is cut short")
        piece = self.data[self.position : end]
        self.position = end
        return piece

    def number(self, code: str) -> Any:
        return struct.unpack(code, self.take(struct.calcsize(code)))[0]

    def pop(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise self.error("takes an object that is not there")
        return self.stack.pop()

    def top(self) -> Any:
        value = self.pop()
        self.stack.append(value)
        return value

    def since_mark(self) -> list:
        for index in range(len(self.stack) - 1, -1, -1):
            if self.stack[index] is _MARK:
                values = self.stack[index + 1 :]
                del self.stack[index:]
                return values
        raise self.error("closes what was not opened")

    # What opcodes do.

    def protocol(self) -> None:
        version = self.take(1)[0]
        if not 2 <= version <= 5:
            raise self.error(f"claims protocol {version}, not one of 2 to 5,")

    def frame(self) -> None:
        if self.number("<Q") > len(self.data) - self.position:
            raise self.error("is cut short")

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def make(self, value: Any, size: int = OBJECT) -> None:
        self.meter.take(size)
        self.stack.append(value)

    def integer(self) -> None:
        size = self.take(1)[0]
        if size > LONGEST_INTEGER:
            raise self.error(f"has an integer of {size} bytes")
        self.make(int.from_bytes(self.take(size), "little", signed=True))

    def text(self, code: str) -> None:
        size = self.number(code)
        if size > len(self.data) - self.position:
            raise self.error("is cut short")
        self.meter.take(OBJECT + 4 * size)
        try:
            self.stack.append(str(self.take(size), "utf-8"))
        except UnicodeDecodeError:
            raise self.error("has text that is not UTF-8") from None

    def raw_bytes(self, code: str) -> None:
        size = self.number(code)
        self.meter.take(4 * OBJECT)
        self.stack.append(self.take(size))

    def tuple_of(self, length: int) -> None:
        values = [self.pop() for _ in range(length)]
        self.make(tuple(reversed(values)))

    def tuple_since_mark(self) -> None:
        values = self.since_mark()
        self.make(tuple(values), OBJECT + 8 * len(values))

    def extend(self, values: list) -> None:
        target = self.top()
        if not isinstance(target, list):
            raise self.error("appends to something that is no list")
        self.meter.take(SLOT * len(values))
        target.extend(values)

    def append(self) -> None:
        value = self.pop()
        self.extend([value])

    def add_items(self) -> None:
        values, target = self.since_mark(), self.top()
        if not isinstance(target, set) or not all(isinstance(value, str) for value in values):
            raise self.error("has a set of something else than text")
        self.meter.take(ENTRY * len(values))
        target.update(values)

    def update(self, pairs: list) -> None:
        target = self.top()
        keys, values = pairs[::2], pairs[1::2]
        items = target.items if isinstance(target, Call) else target
        if not isinstance(items, dict) or len(keys) != len(values):
            raise self.error("puts items into something that holds none")
        if not all(isinstance(key, str) for key in keys):
            raise self.error("has a key that is not text")
        self.meter.take(ENTRY * len(keys))
        items.update(zip(keys, values, strict=True))

    def set_item(self) -> None:
        value = self.pop()
        self.update([self.pop(), value])

    def symbol(self, module: Any, name: Any) -> None:
        full = f"{module}.{name}" if isinstance(module, str) and isinstance(name, str) else None
        if full is None or len(full) > LONGEST_NAME:
            raise self.error("names a global that is no short text")
        if full not in self.known:
            raise UnsafeCheckpointError(
                f"the file asks for {full!r}, which a checkpoint of the official format does not "
                "contain. Nothing of it was run. Do not load it with anything else."
            )
        self.make(Symbol(full))

    def stack_global(self) -> None:
        name, module = self.pop(), self.pop()
        self.symbol(module, name)

    def line(self) -> str:
        piece = bytes(self.data[self.position : self.position + LONGEST_NAME + 1])
        end = piece.find(b"\n")
        if end < 0 or not piece[:end].isascii():
            raise self.error("names a global that is no short text")
        self.position += end + 1
        return piece[:end].decode()

    def text_global(self) -> None:
        module, name = self.line(), self.line()
        self.meter.take(2 * OBJECT)
        self.symbol(module, name)

    def call(self) -> None:
        arguments, function = self.pop(), self.pop()
        if not isinstance(function, Symbol) or not isinstance(arguments, tuple):
            raise self.error("calls something that has no name")
        self.meter.take(CONTAINER)
        record = Call(function.name, arguments)
        self.stack.append(record if self.on_call is None else self.on_call(record))

    def build(self) -> None:
        state, target = self.pop(), self.top()
        if not isinstance(target, Call) or target.state is not None:
            raise self.error("gives a state to something that takes none")
        target.state = state

    def identify(self) -> None:
        if not self.persistent:
            raise self.error("refers to objects kept elsewhere, as the official format does not,")
        self.make(Persistent(self.pop()))

    def put(self, index: int) -> None:
        self.meter.take(ENTRY)
        self.memo[index] = self.top()

    def get(self, index: int) -> None:
        if index not in self.memo:
            raise self.error("repeats an object that it did not store")
        self.stack.append(self.memo[index])


_ACTIONS: dict[int, Callable[[_Machine], None]] = {
    0x80: _Machine.protocol,
    0x95: _Machine.frame,
    ord("("): lambda m: m.push(_MARK),
    ord("N"): lambda m: m.push(None),
    0x88: lambda m: m.push(True),
    0x89: lambda m: m.push(False),
    ord("J"): lambda m: m.make(m.number("<i")),
    ord("K"): lambda m: m.push(m.number("<B")),
    ord("M"): lambda m: m.make(m.number("<H")),
    0x8A: _Machine.integer,
    ord("G"): lambda m: m.make(m.number(">d")),
    0x8C: lambda m: m.text("<B"),
    ord("X"): lambda m: m.text("<I"),
    0x8D: lambda m: m.text("<Q"),
    ord("C"): lambda m: m.raw_bytes("<B"),
    ord("B"): lambda m: m.raw_bytes("<I"),
    0x8E: lambda m: m.raw_bytes("<Q"),
    ord(")"): lambda m: m.push(()),
    0x85: lambda m: m.tuple_of(1),
    0x86: lambda m: m.tuple_of(2),
    0x87: lambda m: m.tuple_of(3),
    ord("t"): _Machine.tuple_since_mark,
    ord("]"): lambda m: m.make([], CONTAINER),
    ord("a"): _Machine.append,
    ord("e"): lambda m: m.extend(m.since_mark()),
    ord("}"): lambda m: m.make({}, CONTAINER),
    ord("s"): _Machine.set_item,
    ord("u"): lambda m: m.update(m.since_mark()),
    0x8F: lambda m: m.make(set(), CONTAINER),
    0x90: _Machine.add_items,
    ord("c"): _Machine.text_global,
    0x93: _Machine.stack_global,
    ord("R"): _Machine.call,
    0x81: _Machine.call,  # an object made by its class, NEWOBJ
    ord("b"): _Machine.build,
    ord("Q"): _Machine.identify,
    ord("q"): lambda m: m.put(m.number("<B")),
    ord("r"): lambda m: m.put(m.number("<I")),
    0x94: lambda m: m.put(len(m.memo)),
    ord("h"): lambda m: m.get(m.number("<B")),
    ord("j"): lambda m: m.get(m.number("<I")),
}
