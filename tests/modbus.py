"""A Modbus server that is not ours, for the tests: pymodbus, over TCP and over
a pair of pseudo-terminals. Says where it is in one line of JSON, and ends when
its standard input does."""

import asyncio, json, logging, os, socket, struct, sys, threading, tty

from pymodbus.framer import FramerType
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice


def registers(fmt, *values):
    raw = struct.pack(fmt, *values)
    return list(struct.unpack(f">{len(raw) // 2}H", raw))


def slave(number):
    f32 = registers(">f", 230.5 + number)
    low_word_first = registers(">I", 123456)[::-1]
    text = registers(">6s", b"SDM630")
    words = f32 + low_word_first + registers(">h", -5) + [0b1000] + text
    # A hole: 20 is there, 12 to 19 are not.
    blocks = [
        SimData(0, values=words, datatype=DataType.REGISTERS),
        SimData(20, values=[number], datatype=DataType.REGISTERS),
    ]
    bits = [SimData(0, values=[False, True, False, False, False, False, False, False,
                               False, True, False, False, False, False, False, False],
                    datatype=DataType.BITS)]
    return SimDevice(number, simdata=(bits, bits, blocks, blocks))


def relay(one, other):
    while True:
        try:
            os.write(other, os.read(one, 4096))
        except OSError:
            return


def ptys():
    ends = [os.openpty() for _ in range(2)]
    for _, end in ends:
        tty.setraw(end)
    for one, other in ((0, 1), (1, 0)):
        threading.Thread(target=relay, args=(ends[one][0], ends[other][0]), daemon=True).start()
    return [os.ttyname(end) for _, end in ends]


async def main():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        tcp = probe.getsockname()[1]
    gateway_end, server_end = ptys()
    slaves = lambda: [slave(1), slave(2)]
    # pymodbus refuses for slaves that aren't there; a line is silent.
    silent = lambda at: lambda sent, data: b"" if sent and data[at : at + 1] == b"\t" else data
    servers = [
        ModbusTcpServer(slaves(), address=("127.0.0.1", tcp), trace_packet=silent(6)),
        ModbusSerialServer(slaves(), framer=FramerType.RTU, port=server_end, baudrate=9600,
                           trace_packet=silent(0)),
    ]
    tasks = [asyncio.create_task(server.serve_forever()) for server in servers]
    print(json.dumps({"tcp": tcp, "port": gateway_end}), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    for task in tasks:
        task.cancel()


# It tells of every telegram for a slave that isn't there.
logging.disable(logging.CRITICAL)
asyncio.run(main())
