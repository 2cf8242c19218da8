"""Buckler trains, attacks, gates, serves and watches medical-image classifiers.

Importing the package does no work: no folder is made, no server contacted, no TensorFlow loaded.
"""
