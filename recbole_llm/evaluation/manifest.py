def manifest_of(*a):
    return {}
