import type { IncomingMessage, ServerResponse } from 'node:http';

/** One of the service's codes, or one that the SDK adds: `clock_rolled_back`, `unreachable`. */
export type Code =
  | 'valid' | 'grace' | 'invalid_signature' | 'not_found' | 'canceled' | 'suspended' | 'not_yet_valid' | 'expired'
  | 'domain_mismatch' | 'limit_exceeded' | 'clock_rolled_back' | 'unreachable';

/** What a license unlocks. */
export class Features extends Set<string> {}

/** Whether the application may run, why, and how this is known. */
export interface Result {
  readonly valid: boolean;
  readonly code: Code | (string & {});
  /** `grace`: remembered, while the service gives no answer. `offline`: judged from the license token itself. */
  readonly source: 'online' | 'cache' | 'grace' | 'offline' | 'none';
  /** Seconds since the service signed it. */
  readonly age: number;
  readonly licenseId: string | null;
  readonly plan: string | null;
  readonly features: Features;
  readonly limits: Readonly<Record<string, number>>;
  readonly expiresAt: Date | null;
  /** The license has expired and holds for up to seven days more. */
  readonly grace: boolean;
  readonly overLimit: boolean;
  /** One sentence for a developer; null where the license holds. */
  readonly explanation: string | null;
  /** Why the service gave no answer: `timeout`, `connection`, `tls`, `pin_mismatch`, `too_large`, `untrusted`, `http_503`, … */
  readonly problem: string | null;
}

export interface ClientOptions {
  /** `https://licenses.example.com`; plain http is for loopback addresses. */
  url: string;
  /** What `validate` asks about unless it is told another: a license's id or its token. */
  licenseKey?: string;
  /** An API token; needed for `record` (scope `usage:write`). */
  token?: string;
  /** The service's key set, compiled in. Without it, it is fetched from the service over TLS. */
  keys?: KeySet | string | Uint8Array | object;
  /** `sha256/…` of the service's public key (SPKI), at least two. */
  pins?: readonly string[];
  /** Default `enforce`. */
  pinMode?: 'enforce' | 'report';
  /** PEM file of the authorities to trust, in place of the system's. */
  caFile?: string;
  /** Keeps verdicts over a restart. */
  cacheDir?: string;
  /** Seconds for which a verdict is used without asking: 60 to 3,600. Default 300. */
  freshFor?: number;
  /** Seconds for which a verified "yes" is used while the service gives no answer. Default and maximum: seven days. */
  graceFor?: number;
  /** What happens when nothing is known. `deny` uses no grace either. Default `graceThenDeny`. */
  onUnknown?: 'graceThenDeny' | 'allow' | 'deny';
  /** Judge a license token itself where nothing is known and the service gives no answer. Default false. */
  offlineFallback?: boolean;
  /** Seconds. Default 2. */
  connectTimeout?: number;
  /** Seconds, retries included. Default 5. */
  totalTimeout?: number;
  /** Seconds for which the service is left alone after a failure. Default 10. */
  pauseAfterFailure?: number;
  /** Default 10,000 events. */
  maxUsageQueue?: number;
  /** Called with the name of each problem; must not throw. */
  onProblem?: (problem: string) => void;
  /** Milliseconds since 1970; for tests. */
  clock?: () => number;
}

export interface UsageDetails {
  licenseId?: string;
  domain?: string;
  feature?: string;
}

export interface UsageStatistics {
  accepted: number;
  sent: number;
  rejected: number;
  dropped: number;
  pending: number;
}

export interface UsageQueue {
  readonly statistics: UsageStatistics;
  /** Sends what is queued now. Whether all of it went out in time (milliseconds). */
  flush(timeout?: number): Promise<boolean>;
}

/** A client of one validation service. Make one for the process. */
export class Client {
  constructor(options: ClientOptions);
  readonly usage: UsageQueue;
  /** Rejects for wrong arguments alone, never for a "no". */
  validate(domain: string, licenseKey?: string): Promise<Result>;
  /** The verdict on a license token, by its signature alone. */
  validateOffline(domain: string, licenseKey?: string): Result;
  /** Queues usage, without waiting. False where it was dropped. */
  record(meter: string, quantity?: number, details?: UsageDetails): boolean;
  /** Sends what is queued, for at most so many milliseconds. */
  close(timeout?: number): Promise<void>;
}

/** What middleware needs of a client; `Client` and `FakeClient` have it. */
export interface Validator {
  validate(domain: string, licenseKey?: string): Promise<Result>;
}

/** A client for tests. */
export class FakeClient implements Validator {
  constructor(answer?: Partial<Omit<Result, 'features'>> & { features?: Iterable<string> });
  readonly asked: string[];
  readonly recorded: Array<{ meter: string; quantity: number } & UsageDetails>;
  set(answer?: Partial<Omit<Result, 'features'>> & { features?: Iterable<string> }): void;
  validate(domain: string): Promise<Result>;
  validateOffline(domain: string): Result;
  record(meter: string, quantity?: number, details?: UsageDetails): boolean;
  close(): Promise<void>;
}

export interface HostOptions {
  /** What to ask about; else it is the request's host. */
  domain?: string;
  /** Addresses and ranges whose `X-Forwarded-Host` is believed. */
  trustedProxies?: readonly string[];
}

export type LicensedRequest = IncomingMessage & { license?: Result };
type Next = (error?: unknown) => void;

/** Middleware of Express and Connect. */
export function express(
  client: Validator,
  options?: HostOptions & {
    onDenied?: (request: LicensedRequest, response: ServerResponse, next: Next, result: Result) => void;
  },
): (request: LicensedRequest, response: ServerResponse, next: Next) => void;

/** A plugin of Fastify. */
export function fastify(
  instance: any,
  options: HostOptions & { client: Validator; onDenied?: (request: any, reply: any, result: Result) => unknown },
): Promise<void>;

export interface LicenseClaims {
  readonly licenseId: string;
  readonly domains: readonly string[];
  readonly plan: string;
  readonly features: readonly string[];
  readonly limits: Readonly<Record<string, number>>;
  /** Milliseconds since 1970, as the other times. */
  readonly issuedAt: number;
  readonly expiresAt: number;
  readonly notBefore: number | null;
  readonly isTrial: boolean;
}

export class DomainName {
  readonly text: string;
  readonly isAddress: boolean;
  readonly isLocal: boolean;
}

export class KeySet {
  /** @throws InvalidKeySet */
  constructor(source: string | Uint8Array | object);
  readonly source: string;
}

export class TokenRefused extends Error {
  readonly code: string;
  readonly claim?: string;
}

export class InvalidKeySet extends Error {}

/** @throws TokenRefused */
export function verifyLicense(token: string, keys: KeySet): LicenseClaims;
export function judge(claims: LicenseClaims, domain: string, now?: number): Code;
/** The name or address that a `Host` header means; null where it is neither. */
export function normalize(text: string): DomainName | null;
export function covers(bound: readonly string[], domain: DomainName | null): boolean;

export interface Verdict {
  readonly valid: boolean;
  readonly code: string;
  readonly timestamp: number;
  readonly licenseId: string | null;
  readonly plan: string | null;
  readonly features: readonly string[];
  readonly limits: Readonly<Record<string, number>>;
  readonly expiresAt: number | null;
  readonly grace: boolean;
  readonly overLimit: boolean;
  readonly error: string | null;
}

/** @throws TokenRefused */
export function verifyVerdict(
  signature: string,
  keys: KeySet,
  question: { licenseKey: string; domain: DomainName | null; nonce: string | null; now: number | null },
): Verdict;
