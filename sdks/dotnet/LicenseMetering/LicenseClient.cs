using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Security.Cryptography;
using System.Text;
using System.Threading;
using System.Threading.Tasks;

namespace LicenseMetering
{
    /// <summary>What middleware needs of a client; LicenseClient and FakeLicenseClient have it.</summary>
    public interface ILicenseValidator
    {
        Task<LicenseResult> ValidateAsync(string domain, CancellationToken cancellation = default(CancellationToken));
    }

    /// <summary>A client of one validation service, for all threads of a process. It asks nothing before it is asked.</summary>
    public sealed class LicenseClient : ILicenseValidator, IDisposable
    {
        /// <summary>The version of this SDK.</summary>
        public const string Version = "0.1.0";

        private const int MaximumAnswerBytes = 65536, Tries = 3;

        /// <summary>So many questions are on their way, and so many wait: whoever asks about many names must not fill the memory.</summary>
        private const int Asking = 16, Waiting = 1000;
        private const long NoIsFresh = 60000;
        private static readonly TimeSpan KeysPause = TimeSpan.FromMinutes(1), MaximumPause = TimeSpan.FromMinutes(5);
        private static readonly TimeSpan Closing = TimeSpan.FromSeconds(5);
        private static readonly byte[] Nothing = new byte[0];

        private readonly LicenseClientOptions options;
        private readonly Transport transport;
        private readonly LicenseCache cache;
        private readonly UsageQueue usage;
        private readonly SemaphoreSlim turns = new SemaphoreSlim(Asking);
        private readonly object guard = new object();
        private readonly Dictionary<(string, string), Task<CacheEntry>> flights = new Dictionary<(string, string), Task<CacheEntry>>();
        private KeySet keys;
        private Stopwatch keysAsked;
        private Deadline pause;
        private string problem = "connection";

        /// <exception cref="ArgumentException">Where the options cannot be meant.</exception>
        public LicenseClient(LicenseClientOptions options)
        {
            this.options = options.Checked();
            transport = new Transport(this.options);
            cache = new LicenseCache(this.options.CacheDir, () => KnownKeys);
            usage = new UsageQueue(this.options.MaxUsageQueue, this.options.Report, SendAsync);
            keys = this.options.Keys ?? SavedKeys();
            AppDomain.CurrentDomain.ProcessExit += OnExit;
        }

        /// <summary>What became of the usage so far.</summary>
        public UsageStatistics UsageStatistics => usage.Statistics;

        private KeySet KnownKeys
        {
            get
            {
                lock (guard)
                {
                    return keys;
                }
            }
        }

        private long Now => options.Clock().ToUnixTimeMilliseconds();

        private bool IsRolledBack => Now < cache.HighestTime() - Verdict.ToleranceMilliseconds;

        /// <summary>Says whether the license holds for a domain. A "no" is a result and no exception.</summary>
        public Task<LicenseResult> ValidateAsync(string domain, CancellationToken cancellation = default(CancellationToken)) =>
            ValidateAsync(domain, options.LicenseKey, cancellation);

        /// <summary>The same for another license key than the client's.</summary>
        public async Task<LicenseResult> ValidateAsync(
            string domain, string licenseKey, CancellationToken cancellation = default(CancellationToken))
        {
            if (!Json.IsPlain(licenseKey, LicenseClientOptions.MaximumKeyBytes))
            {
                return LicenseResult.Denied("not_found", "none", "bad_license_key");
            }
            var name = DomainName.Parse(domain);
            if (name == null)
            {
                return LicenseResult.Denied("domain_mismatch", "offline");
            }
            var remembered = Remembered(licenseKey, name);
            if (remembered != null)
            {
                return remembered;
            }
            var why = Pause();
            if (why == null)
            {
                var flight = Ask(licenseKey, name);
                try
                {
                    var gone = Task.Delay(options.TotalTimeout + TimeSpan.FromSeconds(1), cancellation);
                    await Task.WhenAny(flight, gone).ConfigureAwait(false);
                    if (flight.IsCompleted)
                    {
                        return Result(await flight.ConfigureAwait(false), "online", null);
                    }
                    why = "timeout";
                }
                catch (NoAnswer failure)
                {
                    why = failure.Problem;
                }
            }
            return WithoutAnswer(licenseKey, name, why);
        }

        /// <summary>As ValidateAsync, and waits.</summary>
        public LicenseResult Validate(string domain) => ValidateAsync(domain).GetAwaiter().GetResult();

        /// <summary>As ValidateAsync, and waits.</summary>
        public LicenseResult Validate(string domain, string licenseKey) => ValidateAsync(domain, licenseKey).GetAwaiter().GetResult();

        /// <summary>The verdict on a license token, by its signature alone. It needs keys, compiled in or fetched before.</summary>
        public LicenseResult ValidateOffline(string domain, string licenseToken)
        {
            if (IsRolledBack)
            {
                return LicenseResult.Denied("clock_rolled_back", "offline");
            }
            var known = KnownKeys;
            if (known == null)
            {
                return LicenseResult.Denied("unreachable", "offline", "no_keys");
            }
            LicenseClaims claims;
            try
            {
                claims = LicenseClaims.Verify(licenseToken ?? "", known);
            }
            catch (TokenRefusedException refusal)
            {
                return LicenseResult.Denied("invalid_signature", "offline", refusal.Code);
            }
            var result = LicenseResult.Denied(claims.Judge(domain, options.Clock()), "offline");
            result.Grace = result.Code == "grace";
            result.Valid = result.Grace || result.Code == "valid";
            result.LicenseId = claims.LicenseId;
            result.Plan = claims.Plan;
            result.Limits = claims.Limits;
            result.ExpiresAt = DateTimeOffset.FromUnixTimeMilliseconds(claims.ExpiresAt);
            if (result.Valid)
            {
                result.Features = new Features(claims.Features);
            }
            return result;
        }

        /// <summary>Queues usage, without waiting. False where it was dropped: the queue is full, or the usage breaks a rule.</summary>
        public bool Record(Usage used)
        {
            var own = options.LicenseKey ?? "";
            return usage.Record(used, used?.LicenseId ?? (own.IndexOf('.') < 0 ? own : ""), Now);
        }

        /// <summary>Sends the usage that is queued now; whether all of it went out in that time.</summary>
        public Task<bool> FlushAsync(TimeSpan timeout) => usage.FlushAsync(new Deadline(timeout));

        /// <summary>Sends what is queued for up to that time, and takes no usage any more. What is left is dropped and counted.</summary>
        public async Task CloseAsync(TimeSpan timeout)
        {
            AppDomain.CurrentDomain.ProcessExit -= OnExit;
            await usage.CloseAsync(new Deadline(timeout)).ConfigureAwait(false);
        }

        /// <summary>Sends what is queued for up to 5 s.</summary>
        public void Dispose() => Task.Run(() => CloseAsync(Closing)).GetAwaiter().GetResult();

        private void OnExit(object sender, EventArgs arguments) => Dispose();

        private KeySet SavedKeys()
        {
            try
            {
                var saved = cache.SavedKeys;
                return saved == null ? null : KeySet.Parse(saved);
            }
            catch (InvalidKeySetException)
            {
                return null; // They are fetched.
            }
        }

        // --- What is remembered ---

        private LicenseResult Remembered(string licenseKey, DomainName name)
        {
            if (IsRolledBack)
            {
                return LicenseResult.Denied("clock_rolled_back", "none");
            }
            var known = cache.Get(licenseKey, name);
            if (known == null || Age(known) >= Freshness(known))
            {
                known = cache.Load(licenseKey, name);
            }
            if (known == null || IsOver(known))
            {
                return null;
            }
            var age = Age(known);
            if (age < Freshness(known))
            {
                return Result(known, "cache", null);
            }
            if (!known.Verdict.Valid || age >= 2 * options.FreshFor.TotalMilliseconds)
            {
                return null;
            }
            if (Pause() == null)
            {
                _ = Ask(licenseKey, name).ContinueWith(failed => failed.Exception, TaskContinuationOptions.OnlyOnFaulted);
            }
            return Result(known, "cache", null);
        }

        private LicenseResult WithoutAnswer(string licenseKey, DomainName name, string why)
        {
            if (IsRolledBack)
            {
                return LicenseResult.Denied("clock_rolled_back", "none", why);
            }
            var known = cache.Load(licenseKey, name);
            var now = Now;
            if (known != null && !known.Verdict.Valid)
            {
                return Result(known, "cache", why);
            }
            if (known != null && options.OnUnknown != OnUnknown.Deny)
            {
                if (now >= known.Verdict.ExpiresAt + LicenseClaims.GraceMilliseconds)
                {
                    return LicenseResult.Denied("expired", "cache", why);
                }
                if (now - known.Verdict.Timestamp <= options.GraceFor.TotalMilliseconds)
                {
                    return Result(known, "grace", why);
                }
            }
            if (options.OfflineFallback)
            {
                var offline = ValidateOffline(name.Text, licenseKey);
                if (offline.Problem == null)
                {
                    return offline;
                }
            }
            var result = LicenseResult.Denied("unreachable", "none", why);
            result.Valid = options.OnUnknown == OnUnknown.Allow;
            return result;
        }

        private long Age(CacheEntry entry) => Math.Max(0, Now - entry.Received);

        private double Freshness(CacheEntry entry)
        {
            var fresh = options.FreshFor.TotalMilliseconds;
            return entry.Verdict.Valid ? fresh : Math.Min(fresh, NoIsFresh);
        }

        /// <summary>Whether the license has reached an end since: it is asked about then.</summary>
        private bool IsOver(CacheEntry entry)
        {
            var ends = entry.Verdict.ExpiresAt + (entry.Verdict.Grace ? LicenseClaims.GraceMilliseconds : 0);
            return entry.Verdict.Valid && Now >= ends;
        }

        private LicenseResult Result(CacheEntry entry, string source, string why)
        {
            var verdict = entry.Verdict;
            var now = Now;
            var grace = verdict.Grace || (verdict.Valid && now >= verdict.ExpiresAt);
            return new LicenseResult
            {
                Valid = verdict.Valid,
                Code = grace && verdict.Code == "valid" ? "grace" : verdict.Code,
                Source = source,
                Age = TimeSpan.FromMilliseconds(source == "online" ? 0 : Math.Max(0, now - verdict.Timestamp)),
                LicenseId = verdict.LicenseId,
                Plan = verdict.Plan,
                Features = new Features(verdict.Valid ? verdict.Features : new string[0]),
                Limits = verdict.Limits,
                ExpiresAt = verdict.ExpiresAt == null
                    ? (DateTimeOffset?)null
                    : DateTimeOffset.FromUnixTimeMilliseconds(verdict.ExpiresAt.Value),
                Grace = grace,
                OverLimit = verdict.OverLimit,
                Explanation = verdict.Error,
                Problem = why,
            };
        }

        // --- Asking ---

        /// <summary>Why the service is left alone for now; else null.</summary>
        private string Pause()
        {
            lock (guard)
            {
                return pause == null || pause.IsOver ? null : problem;
            }
        }

        /// <summary>Joins equal questions that are on their way.</summary>
        private Task<CacheEntry> Ask(string licenseKey, DomainName name)
        {
            var key = (licenseKey, name.Text);
            lock (guard)
            {
                if (flights.TryGetValue(key, out var known))
                {
                    return known;
                }
                if (flights.Count >= Asking + Waiting)
                {
                    return Task.FromException<CacheEntry>(new NoAnswer("timeout", true));
                }
                var deadline = new Deadline(options.TotalTimeout);
                return flights[key] = Task.Run(() => FlyAsync(key, licenseKey, name, deadline));
            }
        }

        private async Task<CacheEntry> FlyAsync((string, string) key, string licenseKey, DomainName name, Deadline deadline)
        {
            NoAnswer failure = null;
            CacheEntry entry = null;
            try
            {
                entry = await TakeTurnAsync(licenseKey, name, deadline).ConfigureAwait(false);
                cache.Put(licenseKey, name, entry);
            }
            catch (NoAnswer none)
            {
                failure = none;
            }
            finally
            {
                lock (guard)
                {
                    flights.Remove(key);
                    if (failure != null)
                    {
                        problem = failure.Problem;
                        var asked = failure.RetryAfter < MaximumPause ? failure.RetryAfter : MaximumPause;
                        pause = new Deadline(asked > options.PauseAfterFailure ? asked : options.PauseAfterFailure);
                    }
                }
            }
            if (failure != null)
            {
                options.Report(failure.Problem);
                throw failure;
            }
            return entry;
        }

        private async Task<CacheEntry> TakeTurnAsync(string licenseKey, DomainName name, Deadline deadline)
        {
            if (deadline.IsOver || !await turns.WaitAsync(deadline.Left).ConfigureAwait(false))
            {
                throw new NoAnswer("timeout", true);
            }
            try
            {
                return await AnswerAsync(licenseKey, name, deadline).ConfigureAwait(false);
            }
            finally
            {
                turns.Release();
            }
        }

        private async Task<CacheEntry> AnswerAsync(string licenseKey, DomainName name, Deadline deadline)
        {
            var nonce = Encoded.RandomHex();
            var headers = Headers("application/json");
            headers.Add(("Idempotency-Key", Encoded.RandomHex()));
            var data = await RetryingAsync(new HttpRequest
            {
                Method = "POST",
                Path = "/v1/licenses/validate",
                Headers = headers,
                Body = Encoding.UTF8.GetBytes(Json.Object("licenseKey", licenseKey, "domain", name.Text, "nonce", nonce)),
                Deadline = deadline,
                Limit = MaximumAnswerBytes,
            }).ConfigureAwait(false);
            var signature = Json.ParseObject(data)?.Text("signature", 1, Token.MaximumBytes) ?? throw new NoAnswer("untrusted");
            var known = KnownKeys ?? await FetchKeysAsync(deadline).ConfigureAwait(false);
            var question = new VerdictQuestion { LicenseKey = licenseKey, Domain = name, Nonce = nonce, Now = Now };
            try
            {
                return new CacheEntry(Verdict.Verify(signature, known, question), signature, Now);
            }
            catch (TokenRefusedException refusal) when (refusal.Code == "unknown_key" && MayFetchKeys())
            {
            }
            catch (TokenRefusedException)
            {
                throw new NoAnswer("untrusted");
            }
            // The service may have a new key; it is asked at most once a minute.
            known = await FetchKeysAsync(deadline).ConfigureAwait(false);
            try
            {
                return new CacheEntry(Verdict.Verify(signature, known, question), signature, Now);
            }
            catch (TokenRefusedException)
            {
                throw new NoAnswer("untrusted");
            }
        }

        private bool MayFetchKeys()
        {
            lock (guard)
            {
                return options.Keys == null && (keysAsked == null || keysAsked.Elapsed >= KeysPause);
            }
        }

        private async Task<KeySet> FetchKeysAsync(Deadline deadline)
        {
            lock (guard)
            {
                keysAsked = Stopwatch.StartNew();
            }
            var data = await RetryingAsync(new HttpRequest
            {
                Method = "GET",
                Path = "/.well-known/jwks.json",
                Headers = Headers(null),
                Body = Nothing,
                Deadline = deadline,
                Limit = KeySet.MaximumBytes,
            }).ConfigureAwait(false);
            KeySet fetched;
            try
            {
                fetched = KeySet.Parse(data);
            }
            catch (InvalidKeySetException)
            {
                throw new NoAnswer("untrusted");
            }
            lock (guard)
            {
                keys = fetched;
            }
            cache.SaveKeys(Encoding.UTF8.GetString(data));
            return fetched;
        }

        private async Task<byte[]> RetryingAsync(HttpRequest request)
        {
            for (var retry = 0; ; retry++)
            {
                NoAnswer failure;
                try
                {
                    var answer = await transport.SendAsync(request).ConfigureAwait(false);
                    if (answer.Status == 200)
                    {
                        return answer.Body;
                    }
                    failure = answer.Refusal();
                }
                catch (NoAnswer none)
                {
                    failure = none;
                }
                var jitter = TimeSpan.FromMilliseconds((50 + RandomNumberGenerator.GetInt32(51)) << retry);
                var delay = jitter > failure.RetryAfter ? jitter : failure.RetryAfter;
                if (!failure.IsTemporary || retry + 1 == Tries || request.Deadline.Left <= delay)
                {
                    throw failure;
                }
                await Task.Delay(delay).ConfigureAwait(false);
            }
        }

        private List<(string Name, string Value)> Headers(string contentType)
        {
            var headers = new List<(string Name, string Value)>
            {
                ("Accept", "application/json"), ("User-Agent", "license-metering-dotnet/" + Version),
            };
            if (contentType != null)
            {
                headers.Add(("Content-Type", contentType));
            }
            if (!string.IsNullOrEmpty(options.Token))
            {
                headers.Add(("Authorization", "Bearer " + options.Token));
            }
            return headers;
        }

        private async Task<int> SendAsync(IReadOnlyList<string> events, Deadline deadline)
        {
            var answer = await transport.SendAsync(new HttpRequest
            {
                Method = "POST",
                Path = "/v1/events",
                Headers = Headers("application/cloudevents-batch+json"),
                Body = Encoding.UTF8.GetBytes("[" + string.Join(",", events) + "]"),
                Deadline = deadline.AtMost(options.TotalTimeout),
                Limit = KeySet.MaximumBytes,
            }).ConfigureAwait(false);
            if (answer.Status != 202)
            {
                throw answer.Refusal();
            }
            var members = Json.ParseObject(answer.Body);
            var rejected = (members?["rejected"] as List<object>)?.Count ?? 0;
            return members != null && rejected <= events.Count ? rejected : throw new NoAnswer("untrusted", true);
        }
    }
}
