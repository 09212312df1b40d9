using System;
using System.Collections.Generic;
using System.Linq;
using System.Text;

namespace LicenseMetering
{
    /// <summary>Why a token is not believed.</summary>
    public sealed class TokenRefusedException : Exception
    {
        internal TokenRefusedException(string code, string claim = null)
            : base("token refused: " + code + (claim == null ? "" : ": " + claim))
        {
            Code = code;
            Claim = claim;
        }

        /// <summary>
        /// The rule: too_large, not_compact, bad_header, unsupported_algorithm, critical, wrong_type, unknown_key,
        /// algorithm_mismatch, bad_signature, bad_claims; of a verdict also other_nonce, other_question and stale.
        /// </summary>
        public string Code { get; }

        /// <summary>The claim of bad_claims; else null.</summary>
        public string Claim { get; }
    }

    /// <summary>Compact JWS (RFC 7515).</summary>
    internal static class Token
    {
        public const int MaximumBytes = 8192;

        public static string Algorithm(string name)
        {
            switch (name)
            {
                case "EdDSA": case "Ed25519": return "EdDSA";
                case "ES256": case "RS256": return name;
                default: return null;
            }
        }

        /// <summary>
        /// The payload, where a key of that purpose signed it. The types are what typ may be, in lower case and without
        /// application/; null stands for an absent one.
        /// </summary>
        public static byte[] Verify(string token, KeySet keys, string purpose, params string[] types)
        {
            if (Encoding.UTF8.GetByteCount(token) > MaximumBytes)
            {
                throw new TokenRefusedException("too_large");
            }
            var parts = token.Split('.');
            var decoded = parts.Select(Encoded.FromBase64Url).ToArray();
            if (parts.Length != 3 || decoded.Contains(null))
            {
                throw new TokenRefusedException("not_compact");
            }
            var header = new Header(decoded[0]);
            if (!types.Contains(header.Type))
            {
                throw new TokenRefusedException("wrong_type");
            }
            var key = header.Key(keys, purpose);
            if (!key.Verifies(decoded[2], Encoding.ASCII.GetBytes(parts[0] + "." + parts[1])))
            {
                throw new TokenRefusedException("bad_signature");
            }
            return decoded[1];
        }

        private sealed class Header
        {
            private readonly string algorithm, keyId;

            public Header(byte[] data)
            {
                var members = Json.ParseObject(data);
                if (members == null || members.IsRepeated || members.Text("alg") == null)
                {
                    throw new TokenRefusedException("bad_header");
                }
                algorithm = Algorithm(members.Text("alg")) ?? throw new TokenRefusedException("unsupported_algorithm");
                if (members.Has("crit") || members.Has("b64"))
                {
                    throw new TokenRefusedException("critical");
                }
                keyId = members.Text("kid", 0, 256);
                Type = members.Text("typ")?.ToLowerInvariant();
                if ((members.Has("kid") && keyId == null) || (members.Has("typ") && Type == null))
                {
                    throw new TokenRefusedException("bad_header");
                }
                const string Application = "application/";
                if (Type != null && Type.StartsWith(Application, StringComparison.Ordinal))
                {
                    Type = Type.Substring(Application.Length);
                }
            }

            public string Type { get; }

            public Key Key(KeySet keys, string purpose)
            {
                var named = keys.Keys.Where(key => key.Purpose == purpose && (keyId == null || key.Id == keyId)).ToList();
                List<Key> fitting = named.Where(key => key.Algorithm == algorithm).ToList();
                if (named.Count == 0 || fitting.Count > 1)
                {
                    throw new TokenRefusedException("unknown_key");
                }
                return fitting.Count == 1 ? fitting[0] : throw new TokenRefusedException("algorithm_mismatch");
            }
        }
    }
}
