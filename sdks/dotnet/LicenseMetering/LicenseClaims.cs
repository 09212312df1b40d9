using System;
using System.Collections.Generic;
using System.Linq;

namespace LicenseMetering
{
    /// <summary>What a verified license token says. Times are milliseconds since 1970.</summary>
    public sealed class LicenseClaims
    {
        internal const long GraceMilliseconds = 7L * 24 * 3600 * 1000;
        private const long MaximumMilliseconds = 253402300799999L;
        private const int MaximumItems = 100;

        private LicenseClaims(JsonObject claims)
        {
            LicenseId = Require(claims, "sub", value => Json.PlainText(value, 512));
            Plan = Allow(claims, "plan", value => Json.PlainText(value, 256)) ?? "";
            Features = Allow(claims, "features", Texts) ?? new string[0];
            var single = Allow(claims, "domain", value => Json.PlainText(value, 256));
            var several = Allow(claims, "domains", Texts) ?? new string[0];
            Limits = Allow(claims, "limits", ReadLimits) ?? new Dictionary<string, long>();
            IsTrial = Allow(claims, "trial", value => value as bool?) ?? false;
            NotBefore = Allow(claims, "nbf", Time);
            IssuedAt = Require(claims, "iat", Time).Value;
            ExpiresAt = Require(claims, "exp", value => Time(value) > IssuedAt ? Time(value) : null).Value;
            Domains = (single == null ? new string[0] : new[] { single }).Concat(several).Distinct(StringComparer.Ordinal).ToArray();
        }

        public string LicenseId { get; }

        public IReadOnlyList<string> Domains { get; }

        /// <summary>Empty where the token names none.</summary>
        public string Plan { get; }

        public IReadOnlyList<string> Features { get; }

        public IReadOnlyDictionary<string, long> Limits { get; }

        public long IssuedAt { get; }

        public long ExpiresAt { get; }

        public long? NotBefore { get; }

        public bool IsTrial { get; }

        /// <summary>The claims of a token that a license key of the set has signed. It asks no clock.</summary>
        /// <exception cref="TokenRefusedException">Where the token is not believed.</exception>
        public static LicenseClaims Verify(string token, KeySet keys)
        {
            var claims = Json.ParseObject(Token.Verify(token, keys, "license", null, "jwt", "license+jwt"));
            if (claims == null)
            {
                throw new TokenRefusedException("bad_claims", "claims");
            }
            if (claims.IsRepeated)
            {
                throw new TokenRefusedException("bad_claims", "repeated claim");
            }
            return new LicenseClaims(claims);
        }

        /// <summary>not_yet_valid, expired, domain_mismatch, grace or valid; the last two hold.</summary>
        public string Judge(string domain, DateTimeOffset now)
        {
            var milliseconds = now.ToUnixTimeMilliseconds();
            if (milliseconds < NotBefore)
            {
                return "not_yet_valid";
            }
            var isExpired = milliseconds >= ExpiresAt;
            if (isExpired && (IsTrial || milliseconds >= ExpiresAt + GraceMilliseconds))
            {
                return "expired";
            }
            var name = DomainName.Parse(domain);
            if (name == null || !name.IsCoveredBy(Domains))
            {
                return "domain_mismatch";
            }
            return isExpired ? "grace" : "valid";
        }

        private static T Allow<T>(JsonObject claims, string claim, Func<object, T> read)
        {
            var value = claims.Has(claim) ? read(claims[claim]) : default(T);
            return claims.Has(claim) && value == null ? throw new TokenRefusedException("bad_claims", claim) : value;
        }

        private static T Require<T>(JsonObject claims, string claim, Func<object, T> read)
        {
            var value = Allow(claims, claim, read);
            return value == null ? throw new TokenRefusedException("bad_claims", claim) : value;
        }

        private static string[] Texts(object value)
        {
            var elements = value as List<object>;
            var texts = elements?.Select(element => Json.PlainText(element, 256)).ToArray();
            return texts == null || texts.Length > MaximumItems || texts.Contains(null) ? null : texts;
        }

        private static Dictionary<string, long> ReadLimits(object value)
        {
            if (!(value is JsonObject members) || members.IsRepeated || members.Names.Count > MaximumItems)
            {
                return null;
            }
            var limits = new Dictionary<string, long>(StringComparer.Ordinal);
            foreach (var name in members.Names.Where(name => members[name] != null))
            {
                var quantity = Json.Integer(members[name]);
                if (quantity == null || quantity < 0 || !Json.IsPlain(name, 64))
                {
                    return null;
                }
                limits[name] = quantity.Value;
            }
            return limits;
        }

        private static long? Time(object value)
        {
            var time = (value as JsonNumber)?.Scaled(3);
            return time >= 0 && time <= MaximumMilliseconds ? time : null;
        }
    }
}
