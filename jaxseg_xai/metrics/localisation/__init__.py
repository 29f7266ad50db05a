"""Metrics of localisation: does the map point into a region that is known to matter?"""
