"""MiSuRe: minimally sufficient regions."""
