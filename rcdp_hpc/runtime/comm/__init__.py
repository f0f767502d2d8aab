"""Communicators between the ranks of a job: how a job was launched, collective calls, heartbeats."""
