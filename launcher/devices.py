"""--list-devices: what can compute here, and why the rest cannot. Loads no model. Imported by the launcher only."""

from launcher.console import Console
from launcher.gpu import TITLES, carried_backends
from launcher.machine import kernels
from launcher.session import Place, open_engine
from launcher.verdict import judge
from runtime.engine import Device
from runtime.memory import machine_memory


def show_devices(place: Place, console: Console, *, verbose: bool) -> None:
    """A row a device: name, kind, backend, free and all memory, what it is, its driver. Reasons go to stderr."""
    engine = open_engine(place, verbose=verbose)
    drivers: dict[str, str] = {}
    reasons = []
    for backend in carried_backends(engine.folder):
        verdict = judge(backend, engine.folder, place.cache, place.env)
        if verdict.usable:
            engine.load_backend(backend)
            drivers |= {device.name: device.driver for device in verdict.usable}
        if verdict.reason:
            reasons.append(f"{TITLES[backend]}: {verdict.reason}")
    devices = [device for device in engine.devices() if device.kind == "cpu" or device.name in drivers]
    rows = [_row(device, drivers.get(device.name, "")) for device in devices]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        console.answer("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() + "\n")
    for reason in reasons:
        console.complain(reason)


def _row(device: Device, driver: str) -> tuple[str, ...]:
    free, total = device.memory_free, device.memory_total
    if device.kind == "cpu" and (own_memory := machine_memory()).available:
        free, total = own_memory.available, own_memory.total  # llama.cpp calls all of it free
    memory = f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
    own = f"{kernels()} kernels" if device.kind == "cpu" and kernels() else ""
    about = ", ".join(filter(None, (device.description.strip(), driver or own)))
    return device.name, device.kind, device.backend, memory, about
