"""Inversion methods: one file for each, all under one contract (`methods.base`)."""
