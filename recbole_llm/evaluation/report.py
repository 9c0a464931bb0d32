import json


def write_json(path, value):
    path.write_text(json.dumps(value))


def write(*a):
    pass
