"""Trained classifiers at work: scores, fusion, calibration, prediction, segments of long recordings, export."""
