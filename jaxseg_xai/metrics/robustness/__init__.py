"""Metrics of robustness: does the map stay where it should, and change where it should?"""
