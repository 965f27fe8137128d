export function bundle(directory: string, more?: readonly string[]): Promise<void>
