using System;
using System.Collections.Generic;
using System.Linq;

namespace LicenseMetering
{
    /// <summary>What happens when nothing is known and the service gives no answer.</summary>
    public enum OnUnknown
    {
        /// <summary>A verified "yes" holds for GraceFor; then "no".</summary>
        GraceThenDeny,

        /// <summary>As before; then "yes".</summary>
        Allow,

        /// <summary>"No" as soon as the verdict is not fresh.</summary>
        Deny,
    }

    /// <summary>What happens when the service's public key is none of the pins.</summary>
    public enum PinMode
    {
        /// <summary>The connection is refused.</summary>
        Enforce,

        /// <summary>OnProblem hears of it.</summary>
        Report,
    }

    /// <summary>Options of a LicenseClient.</summary>
    public sealed class LicenseClientOptions
    {
        internal const int MaximumKeyBytes = 8192;
        private static readonly TimeSpan Week = TimeSpan.FromDays(7);

        /// <summary>https://licenses.example.com; plain http is for loopback addresses.</summary>
        public string Url { get; set; }

        /// <summary>A license's id or its token.</summary>
        public string LicenseKey { get; set; }

        /// <summary>An API token, needed for Record (scope usage:write).</summary>
        public string Token { get; set; }

        /// <summary>The service's key set, compiled in. Without it, it is fetched from the service over TLS.</summary>
        public KeySet Keys { get; set; }

        /// <summary>sha256/… of the service's public key (SPKI), at least two.</summary>
        public IReadOnlyList<string> Pins { get; set; }

        public PinMode PinMode { get; set; }

        /// <summary>A file with the authorities to trust in PEM, in place of the system's.</summary>
        public string CaFile { get; set; }

        /// <summary>A folder that keeps verdicts over a restart.</summary>
        public string CacheDir { get; set; }

        /// <summary>How long a verdict is used without asking: 1 minute to 1 hour.</summary>
        public TimeSpan FreshFor { get; set; } = TimeSpan.FromMinutes(5);

        /// <summary>How long a verified "yes" is used while the service gives no answer: at most seven days.</summary>
        public TimeSpan GraceFor { get; set; } = Week;

        public OnUnknown OnUnknown { get; set; }

        /// <summary>Judges a license token itself where nothing is known and the service gives no answer.</summary>
        public bool OfflineFallback { get; set; }

        public TimeSpan ConnectTimeout { get; set; } = TimeSpan.FromSeconds(2);

        /// <summary>Retries included.</summary>
        public TimeSpan TotalTimeout { get; set; } = TimeSpan.FromSeconds(5);

        /// <summary>How long the service is left alone after a failure.</summary>
        public TimeSpan PauseAfterFailure { get; set; } = TimeSpan.FromSeconds(10);

        public int MaxUsageQueue { get; set; } = 10000;

        /// <summary>Called with the name of each problem, from any thread.</summary>
        public Action<string> OnProblem { get; set; }

        /// <summary>For tests.</summary>
        public Func<DateTimeOffset> Clock { get; set; } = () => DateTimeOffset.UtcNow;

        internal LicenseClientOptions Checked()
        {
            Require(FreshFor >= TimeSpan.FromMinutes(1) && FreshFor <= TimeSpan.FromHours(1), "FreshFor must be 1 minute to 1 hour");
            Require(GraceFor >= TimeSpan.Zero && GraceFor <= Week, "GraceFor must be at most seven days");
            Require(Enum.IsDefined(typeof(OnUnknown), OnUnknown), "OnUnknown must be GraceThenDeny, Allow or Deny");
            Require(Enum.IsDefined(typeof(PinMode), PinMode), "PinMode must be Enforce or Report");
            Require(ConnectTimeout > TimeSpan.Zero && TotalTimeout > TimeSpan.Zero, "the timeouts must be more than nothing");
            Require(
                string.IsNullOrEmpty(LicenseKey) || Json.IsPlain(LicenseKey, MaximumKeyBytes),
                "LicenseKey must be a text of 1 to 8,192 bytes without control characters");
            Require(
                Token == null || Token.All(letter => letter > 0x20 && letter < 0x7F), "Token must be ASCII without blanks");
            return (LicenseClientOptions)MemberwiseClone();
        }

        /// <summary>The application's own function may throw; whoever found the problem goes on.</summary>
        internal void Report(string problem)
        {
            try
            {
                OnProblem?.Invoke(problem);
            }
            catch (Exception)
            {
            }
        }

        private static void Require(bool condition, string message)
        {
            if (!condition)
            {
                throw new ArgumentException(message);
            }
        }
    }
}
