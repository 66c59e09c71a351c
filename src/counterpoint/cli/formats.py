"""``counterpoint formats``."""


def formats() -> None:
    """List the raw formats that each workload reads.

    A format of one's own is given to other commands as --format module:OBJECT.

    Example: counterpoint formats
    """
    from counterpoint import workload

    for name in workload.names():
        known = workload.formats(name)
        width = max(map(len, known.names))
        print(name)
        for each in known:
            print(f"  {each.name:{width}}  {each.summary}")
