export function requireCommonJs(directory: string): void
export function rewrite(source: string): string
