# Policies of other packages, named `plugin:name`: found, checked, asked to fill in their functions.

PLUGIN = "plugin:"


cdef const policy *load_policy(str name) except NULL:
    """What module ``name``_BUILD hands out; ValueError: what is wrong with it."""
    cdef const policy *p
    module = f"{name}_{PT_BUILD_NAME.decode()}"
    try:
        capsule = getattr(import_module(module), "policy", None)
    except ImportError as error:
        raise ValueError(f"policy {name} cannot be loaded: {error}; expected {module}, from ptstress.plugin.extensions") from None
    if not PyCapsule_CheckExact(capsule):
        raise ValueError(f"policy {name}: {module}.policy is {capsule!r}; expected what cy/face/policy.pxi makes")
    if not PyCapsule_IsValid(capsule, PT_POLICY_CAPSULE):
        found = PyCapsule_GetName(capsule)
        raise ValueError(f"policy {name} is made for {found.decode() if found != NULL else 'something else'}, this is "
                         f"{PT_POLICY_CAPSULE.decode()}: build it again")
    # The module stays, and with it its capsule, for as long as this process does.
    p = <const policy *>PyCapsule_GetPointer(capsule, PT_POLICY_CAPSULE)
    if strcmp(p.abi, PT_ABI) != 0:
        raise ValueError(f"policy {name} was built against ptstress headers {p.abi.decode()}, this is {PT_ABI.decode()} "
                         f"(build {PT_BUILD_NAME.decode()}): build it again")
    p.share(pt_current_slot)
    return p


cdef int plug_protect(mm *m, protect_ops *ops, str name) except -1:
    """Let a policy fill in the protection; ValueError if it leaves out what every operation calls."""
    cdef const policy *p = load_policy(name)
    if p.protect == NULL:
        raise ValueError(f"policy {name} is no protection: expected a first argument of policy_capsule")
    memset(ops, 0, sizeof(protect_ops))
    m.lockless = 0
    p.protect(m, ops)
    missing = [field for field, there in (
        ("begin", ops.begin != NULL), ("next_vma", ops.next_vma != NULL), ("next", ops.next != NULL),
        ("lock", ops.lock != NULL), ("install", ops.install != NULL), ("detach", ops.detach != NULL),
        ("sleep", ops.sleep != NULL), ("end", ops.end != NULL)) if not there]
    if missing:
        raise ValueError(f"policy {name} leaves out {', '.join(missing)} of protect_ops: expected a function for each")
    return 0


cdef int plug_reclaim(mm *m, reclaim_ops *ops, str name) except -1:
    """Let a policy fill in its events; ValueError if there are none, or those do not go together."""
    cdef const policy *p = load_policy(name)
    if p.reclaim == NULL:
        raise ValueError(f"policy {name} is no reclaim policy: expected a second argument of policy_capsule")
    m.reclaim = ops
    p.reclaim(m, ops)
    marks = ops.left_behind != NULL or ops.zero_mapped != NULL
    if not (marks or ops.emptied_locked != NULL or ops.emptied != NULL or ops.unlinked != NULL or ops.scan != NULL):
        raise ValueError(f"policy {name} fills in nothing of reclaim_ops: expected a function for some event")
    if marks and ops.scan == NULL:
        raise ValueError(f"policy {name} leaves out scan of reclaim_ops: expected one, for what it marks")
    if ops.scan != NULL and ops.scan_mode not in (DETACH_SCAN, DETACH_ZERO):
        raise ValueError(f"policy {name}: scan_mode of reclaim_ops is {ops.scan_mode}; expected DETACH_SCAN or DETACH_ZERO")
    return 0
