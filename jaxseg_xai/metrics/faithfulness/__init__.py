"""Metrics of faithfulness: does the model need what the map calls relevant?"""
