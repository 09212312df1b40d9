using System.Collections.Generic;
using System.Linq;

namespace LicenseMetering
{
    /// <summary>What was asked. An answer is believed only where it repeats all of it.</summary>
    public sealed class VerdictQuestion
    {
        public string LicenseKey { get; set; }

        /// <summary>Null where what was sent is no name.</summary>
        public DomainName Domain { get; set; }

        public string Nonce { get; set; }

        /// <summary>In milliseconds since 1970.</summary>
        public long Now { get; set; }
    }

    /// <summary>What the service has signed. Times are milliseconds since 1970.</summary>
    public sealed class Verdict
    {
        internal const long ToleranceMilliseconds = 300000;

        private Verdict(JsonObject members, long timestamp)
        {
            if (!(members["valid"] is bool valid) || members.Text("code") == null)
            {
                throw new TokenRefusedException("bad_claims", "verdict");
            }
            Valid = valid;
            Code = members.Text("code");
            Timestamp = timestamp;
            LicenseId = members.Text("licenseId") ?? "";
            Plan = members.Text("plan") ?? "";
            Error = members.Text("error") ?? "";
            Grace = members.IsTrue("grace");
            OverLimit = members.IsTrue("overLimit");
            ExpiresAt = Encoded.FromTime(members.Text("expiresAt"));
            var features = members["features"] as List<object> ?? new List<object>();
            Features = features.Select(feature => Json.Text(feature)).Where(feature => feature != null).ToArray();
            var limits = new Dictionary<string, long>();
            if (members["limits"] is JsonObject found)
            {
                foreach (var name in found.Names.Where(name => Json.Integer(found[name]) != null))
                {
                    limits[name] = Json.Integer(found[name]).Value;
                }
            }
            Limits = limits;
        }

        public bool Valid { get; }

        public string Code { get; }

        public long Timestamp { get; }

        public string LicenseId { get; }

        public string Plan { get; }

        public IReadOnlyList<string> Features { get; }

        public IReadOnlyDictionary<string, long> Limits { get; }

        public long? ExpiresAt { get; }

        public bool Grace { get; }

        public bool OverLimit { get; }

        public string Error { get; }

        /// <summary>The verdict of a signature, where it answers this very question.</summary>
        /// <exception cref="TokenRefusedException">Where it is not believed.</exception>
        public static Verdict Verify(string signature, KeySet keys, VerdictQuestion question)
        {
            var members = Read(signature, keys, question, out var timestamp);
            if (timestamp < question.Now - ToleranceMilliseconds || timestamp > question.Now + ToleranceMilliseconds)
            {
                throw new TokenRefusedException("stale");
            }
            return new Verdict(members, timestamp);
        }

        /// <summary>For an answer that was verified when it came and is read back from a cache; null where it is not believed.</summary>
        internal static Verdict FromSaved(string signature, KeySet keys, string licenseKey, DomainName domain)
        {
            try
            {
                var question = new VerdictQuestion { LicenseKey = licenseKey, Domain = domain };
                var members = Read(signature, keys, question, out var timestamp);
                return new Verdict(members, timestamp);
            }
            catch (TokenRefusedException)
            {
                return null;
            }
        }

        /// <summary>When the service signed a verdict, whatever it answers; 0 where it is not the service's.</summary>
        internal static long SignedTime(string signature, KeySet keys)
        {
            try
            {
                var members = Json.ParseObject(Token.Verify(signature, keys, "verdict", "verdict+jwt"));
                return Encoded.FromTime(members?.Text("timestamp")) ?? 0;
            }
            catch (TokenRefusedException)
            {
                return 0;
            }
        }

        private static JsonObject Read(string signature, KeySet keys, VerdictQuestion question, out long timestamp)
        {
            var members = Json.ParseObject(Token.Verify(signature, keys, "verdict", "verdict+jwt"));
            if (members == null || members.IsRepeated || (question.Nonce != null && members.Text("nonce") != question.Nonce))
            {
                throw new TokenRefusedException("other_nonce");
            }
            var domain = members.Text("domain");
            var isSame = question.Domain == null
                ? members.Has("domain") && members["domain"] == null
                : domain == question.Domain.Text;
            if (!isSame || members.Text("licenseKeyHash") != Encoded.Base64Url(Encoded.Sha256(question.LicenseKey)))
            {
                throw new TokenRefusedException("other_question");
            }
            timestamp = Encoded.FromTime(members.Text("timestamp")) ?? throw new TokenRefusedException("stale");
            return members;
        }
    }
}
