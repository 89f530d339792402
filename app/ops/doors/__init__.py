"""The commands of `etude`, a file a noun; what they do stands beside this folder.

Imports of what takes long to load stand in the commands: `etude --version` should not wait for it.
"""
