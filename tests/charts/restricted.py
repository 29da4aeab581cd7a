"""The Pod Security Standards' profile "restricted" as a table of checks, the profile "baseline" included.

Written from the standard's own table, with the names of its checks. Fields for Windows are always refused. A check
takes a pod's spec and names every place that violates it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

Spec = dict[str, Any]

VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
SYSCTLS = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
}
SELINUX_TYPES = {"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}


def containers(spec: Spec) -> Iterator[tuple[str, Spec, Spec]]:
    """Each container of every kind, with its name and its security context."""
    for sort in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(sort, []):
            yield container["name"], container, container.get("securityContext", {})


def contexts(spec: Spec) -> Iterator[tuple[str, Spec]]:
    """The pod's own security context and each container's."""
    yield "the pod", spec.get("securityContext", {})
    for name, _, context in containers(spec):
        yield name, context


def each_container(broken: Callable[[Spec, Spec], bool]) -> Callable[[Spec], list[str]]:
    return lambda spec: [name for name, container, context in containers(spec) if broken(container, context)]


def each_context(broken: Callable[[Spec], bool]) -> Callable[[Spec], list[str]]:
    return lambda spec: [name for name, context in contexts(spec) if broken(context)]


def inherited(field: str, good: Callable[[Any], bool]) -> Callable[[Spec], list[str]]:
    """A check of a field that a container inherits from its pod: the value in effect must be allowed."""

    def broken(spec: Spec) -> list[str]:
        above = spec.get("securityContext", {}).get(field)
        return [name for name, _, context in containers(spec) if not good(context.get(field, above))]

    return broken


def hooks_with_a_host(container: Spec, _: Spec) -> bool:
    probes = [container.get(name, {}) for name in ("livenessProbe", "readinessProbe", "startupProbe")]
    hooks = [hook for hook in container.get("lifecycle", {}).values() if isinstance(hook, dict)]
    return any(step.get(sort, {}).get("host") for step in probes + hooks for sort in ("httpGet", "tcpSocket"))


CHECKS: dict[str, Callable[[Spec], list[str]]] = {
    # baseline
    "Host Namespaces": lambda spec: [name for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name)],
    "HostProcess": each_context(lambda context: "windowsOptions" in context),
    "Privileged Containers": each_container(lambda _, context: bool(context.get("privileged"))),
    "HostPath Volumes": lambda spec: [volume["name"] for volume in spec.get("volumes", []) if "hostPath" in volume],
    "Host Ports": each_container(lambda container, _: any(port.get("hostPort") for port in container.get("ports", []))),
    "Host Probes / Lifecycle Hooks": each_container(hooks_with_a_host),
    "AppArmor": each_context(lambda context: context.get("appArmorProfile", {}).get("type") == "Unconfined"),
    "SELinux": each_context(
        lambda context: (
            context.get("seLinuxOptions", {}).get("type", "") not in SELINUX_TYPES
            or bool({"user", "role"} & set(context.get("seLinuxOptions", {})))
        )
    ),
    "/proc Mount Type": each_container(lambda _, context: context.get("procMount", "Default") != "Default"),
    "Sysctls": lambda spec: [
        entry["name"] for entry in spec.get("securityContext", {}).get("sysctls", []) if entry["name"] not in SYSCTLS
    ],
    # restricted
    "Volume Types": lambda spec: [
        volume["name"] for volume in spec.get("volumes", []) if not set(volume) - {"name"} <= VOLUMES
    ],
    "Privilege Escalation": each_container(lambda _, context: context.get("allowPrivilegeEscalation") is not False),
    "Running as Non-root": inherited("runAsNonRoot", lambda value: value is True),
    "Running as Non-root user": each_context(lambda context: context.get("runAsUser") == 0),
    "Seccomp": inherited("seccompProfile", lambda value: (value or {}).get("type") in ("RuntimeDefault", "Localhost")),
    "Capabilities, dropped": each_container(
        lambda _, context: "ALL" not in context.get("capabilities", {}).get("drop", [])
    ),
    "Capabilities, added": each_container(
        lambda _, context: not set(context.get("capabilities", {}).get("add", [])) <= {"NET_BIND_SERVICE"}
    ),
}


def violations(spec: Spec) -> list[str]:
    """Everything in a pod's spec that the profile forbids, as "check: place"."""
    return [f"{check}: {place}" for check, broken in CHECKS.items() for place in broken(spec)]
