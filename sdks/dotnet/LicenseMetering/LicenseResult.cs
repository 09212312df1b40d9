using System;
using System.Collections;
using System.Collections.Generic;
using System.Linq;

namespace LicenseMetering
{
    /// <summary>What a license unlocks.</summary>
    public sealed class Features : IEnumerable<string>
    {
        private readonly HashSet<string> names;

        public Features(IEnumerable<string> names) => this.names = new HashSet<string>(names, StringComparer.Ordinal);

        /// <summary>Whether the license unlocks it.</summary>
        public bool Has(string name) => names.Contains(name);

        /// <summary>In their order.</summary>
        public IEnumerator<string> GetEnumerator() => names.OrderBy(name => name, StringComparer.Ordinal).GetEnumerator();

        IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();
    }

    /// <summary>Whether the application may run, why, and how this is known.</summary>
    public sealed class LicenseResult
    {
        private static readonly Dictionary<string, string> Explanations = new Dictionary<string, string>
        {
            ["domain_mismatch"] = "The license is not valid for this domain.",
            ["expired"] = "The license has expired.",
            ["not_yet_valid"] = "The license is not valid yet.",
            ["invalid_signature"] = "The license key is not accepted: it was not signed by its vendor, or was changed since.",
            ["clock_rolled_back"] = "The clock is behind a time that the license service has signed.",
            ["unreachable"] = "The license service gave no valid answer, and nothing is known about the license.",
        };

        public bool Valid { get; internal set; }

        /// <summary>One of the service's, or clock_rolled_back or unreachable.</summary>
        public string Code { get; internal set; }

        /// <summary>
        /// online, cache, grace (remembered while the service gives no answer), offline (judged from the license token itself) or
        /// none.
        /// </summary>
        public string Source { get; internal set; }

        /// <summary>How long ago the service signed it.</summary>
        public TimeSpan Age { get; internal set; }

        /// <summary>Empty where it is not known, as is the plan.</summary>
        public string LicenseId { get; internal set; } = "";

        public string Plan { get; internal set; } = "";

        public Features Features { get; internal set; } = new Features(Enumerable.Empty<string>());

        public IReadOnlyDictionary<string, long> Limits { get; internal set; } = new Dictionary<string, long>();

        /// <summary>Null where it is not known.</summary>
        public DateTimeOffset? ExpiresAt { get; internal set; }

        /// <summary>The license has expired and holds for up to seven days more.</summary>
        public bool Grace { get; internal set; }

        public bool OverLimit { get; internal set; }

        /// <summary>One sentence for a developer; empty where the license holds.</summary>
        public string Explanation { get; internal set; } = "";

        /// <summary>
        /// Why the service gave no answer: timeout, connection, tls, pin_mismatch, too_large, untrusted, http_503…; else null.
        /// </summary>
        public string Problem { get; internal set; }

        internal static LicenseResult Denied(string code, string source, string problem = null)
        {
            Explanations.TryGetValue(code, out var explanation);
            return new LicenseResult { Code = code, Source = source, Problem = problem, Explanation = explanation ?? "" };
        }
    }
}
