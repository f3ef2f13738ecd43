"""The studies whose results are collected."""
