"""Kinds of layers: what the connections between a layer and those below it do.

To add a kind: one file here with a `LayerKind`, its settings in `hepcli/settings/layers.py`, and one line in
`hepcli/settings/parts.py`.
"""
