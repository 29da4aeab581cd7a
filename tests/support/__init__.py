"""Shared by the tests: real servers and processes, broken connections, raw protocol clients. No tests here."""
