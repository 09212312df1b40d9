using System;
using System.Collections.Generic;
using System.Linq;
using System.Numerics;
using System.Security.Cryptography;
using System.Text;

namespace LicenseMetering
{
    /// <summary>Why a text is no key set. It names the key and the member, and never a value.</summary>
    public sealed class InvalidKeySetException : Exception
    {
        internal InvalidKeySetException(string message) : base(message)
        {
        }
    }

    /// <summary>A public key of a set. The algorithm is the key's, never the token's.</summary>
    public sealed class Key
    {
        private readonly byte[] ed25519;
        private readonly ECParameters p256;
        private readonly RSAParameters rsa;

        private Key(JsonObject members, string purpose)
        {
            Purpose = purpose;
            string required, kind = members.Text("kty"), curve = members.Text("crv");
            if (kind == "OKP" && curve == "Ed25519")
            {
                Algorithm = "EdDSA";
                ed25519 = Bytes(members, "x", 32);
                required = Json.Object("crv", curve, "kty", kind, "x", Encoded.Base64Url(ed25519));
            }
            else if (kind == "EC" && curve == "P-256")
            {
                Algorithm = "ES256";
                var point = new ECPoint { X = Bytes(members, "x", 32), Y = Bytes(members, "y", 32) };
                Require(IsOnP256(point), "x and y are no point of P-256");
                p256 = new ECParameters { Curve = ECCurve.NamedCurves.nistP256, Q = point };
                required = Json.Object(
                    "crv", curve, "kty", kind, "x", Encoded.Base64Url(point.X), "y", Encoded.Base64Url(point.Y));
            }
            else
            {
                Require(kind == "RSA", "kty and crv must be OKP with Ed25519, EC with P-256, or RSA");
                Algorithm = "RS256";
                rsa = new RSAParameters { Modulus = Bytes(members, "n", 0), Exponent = Bytes(members, "e", 0) };
                Require(IsGood(rsa), "n and e are no RSA key of 2,048 to 8,192 bits");
                required = Json.Object("e", Encoded.Base64Url(rsa.Exponent), "kty", kind, "n", Encoded.Base64Url(rsa.Modulus));
                rsa.Exponent = rsa.Exponent.SkipWhile(digit => digit == 0).ToArray();
            }
            Thumbprint = Encoded.Base64Url(Encoded.Sha256(required));
            Id = members.Has("kid") ? members.Text("kid", 1, 256) : Thumbprint;
            Require(Id != null, "kid must be a text of 1 to 256 bytes");
            Require(!members.Has("alg") || Token.Algorithm(members.Text("alg")) == Algorithm, "alg does not fit the key");
        }

        /// <summary>Its kid, or its thumbprint (RFC 7638).</summary>
        public string Id { get; }

        /// <summary>EdDSA, ES256 or RS256.</summary>
        public string Algorithm { get; }

        /// <summary>license or verdict.</summary>
        public string Purpose { get; }

        internal string Thumbprint { get; }

        internal static Key Read(JsonObject members)
        {
            Require(!members.IsRepeated, "a member stands twice");
            Require(!members.Has("use") || members.Text("use") == "sig", "use must be sig");
            var operations = members["key_ops"] as List<object>;
            Require(
                !members.Has("key_ops") || (operations != null && operations.All(one => Json.Text(one) != null)),
                "key_ops must be an array of texts");
            var purpose = members.Has("purpose") ? members.Text("purpose") : "license";
            Require(purpose == "license" || purpose == "verdict", "purpose must be license or verdict");
            return new Key(members, purpose);
        }

        /// <summary>Leaves out keys of other kinds, curves, uses and algorithms, as RFC 7517 asks; what is malformed stays.</summary>
        internal static bool IsOfUse(JsonObject members)
        {
            bool fits;
            switch (members.Text("kty"))
            {
                case null: return true;
                case "OKP": fits = Is(members, "crv", "Ed25519"); break;
                case "EC": fits = Is(members, "crv", "P-256"); break;
                case "RSA": fits = true; break;
                default: return false;
            }
            var signs = !(members["key_ops"] is List<object> operations) ||
                operations.Any(one => Json.Text(one) == "verify" || Json.Text(one) == "sign");
            return fits && signs && Is(members, "use", "sig") && Is(members, "alg", "EdDSA", "Ed25519", "ES256", "RS256") &&
                Is(members, "purpose", "license", "verdict");
        }

        private static bool Is(JsonObject members, string name, params string[] known) =>
            members.Text(name) == null || known.Contains(members.Text(name));

        /// <summary>Judges by the key's own algorithm, whatever the token says.</summary>
        internal bool Verifies(byte[] signature, byte[] data)
        {
            try
            {
                switch (Algorithm)
                {
                    case "EdDSA":
                        return Ed25519.Verify(ed25519, data, signature);
                    case "ES256":
                        using (var key = ECDsa.Create(p256))
                        {
                            return signature.Length == 64 && key.VerifyData(data, signature, HashAlgorithmName.SHA256);
                        }
                    default:
                        using (var key = RSA.Create(rsa))
                        {
                            return signature.Length == rsa.Modulus.Length &&
                                key.VerifyData(data, signature, HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1);
                        }
                }
            }
            catch (CryptographicException)
            {
                return false;
            }
        }

        private static void Require(bool condition, string message)
        {
            if (!condition)
            {
                throw new InvalidKeySetException(message);
            }
        }

        private static byte[] Bytes(JsonObject members, string name, int count)
        {
            var text = members.Text(name, 0, 2048);
            var bytes = text == null ? null : Encoded.FromBase64Url(text);
            Require(
                bytes != null && bytes.Length > 0 && (count == 0 || bytes.Length == count),
                name + " must be base64url of the right length");
            return bytes;
        }

        private static BigInteger Number(byte[] bytes) => new BigInteger(bytes.Reverse().Concat(new byte[] { 0 }).ToArray());

        private static int Bits(BigInteger value)
        {
            var count = 0;
            for (; !value.IsZero; value >>= 1)
            {
                count++;
            }
            return count;
        }

        private static bool IsOnP256(ECPoint point)
        {
            var p = BigInteger.Pow(2, 256) - BigInteger.Pow(2, 224) + BigInteger.Pow(2, 192) + BigInteger.Pow(2, 96) - 1;
            var b = BigInteger.Parse("41058363725152142129326129780047268409114441015993725554835256314039467401291");
            BigInteger x = Number(point.X), y = Number(point.Y);
            return x < p && y < p && (y * y - (x * x * x - 3 * x + b)) % p == 0;
        }

        private static bool IsGood(RSAParameters key)
        {
            BigInteger modulus = Number(key.Modulus), exponent = Number(key.Exponent);
            var bits = Bits(modulus);
            return bits >= 2048 && bits <= 8192 && key.Modulus[0] != 0 && exponent >= 3 && Bits(exponent) <= 31 && !exponent.IsEven;
        }
    }

    /// <summary>The keys of GET /.well-known/jwks.json.</summary>
    public sealed class KeySet
    {
        internal const int MaximumBytes = 1 << 20;
        private const int MaximumKeys = 100;

        private readonly List<Key> keys = new List<Key>();

        private KeySet()
        {
        }

        public IReadOnlyList<Key> Keys => keys;

        /// <summary>Reads a JSON Web Key Set (RFC 7517). Keys of kinds that are not known are left out; a malformed key is an error.</summary>
        /// <exception cref="InvalidKeySetException">Where it is none.</exception>
        public static KeySet Parse(string source) => Parse(Encoding.UTF8.GetBytes(source));

        internal static KeySet Parse(byte[] source)
        {
            if (source.Length > MaximumBytes)
            {
                throw new InvalidKeySetException("key set: more than 1 MiB");
            }
            var members = Json.ParseObject(source);
            if (members == null || members.IsRepeated || !(members["keys"] is List<object> elements))
            {
                throw new InvalidKeySetException("not a JSON Web Key Set");
            }
            if (elements.Count > MaximumKeys)
            {
                throw new InvalidKeySetException("key set: more than 100 keys");
            }
            var set = new KeySet();
            for (var i = 0; i < elements.Count; i++)
            {
                try
                {
                    set.Add(elements[i] as JsonObject ?? throw new InvalidKeySetException("not an object"));
                }
                catch (InvalidKeySetException error)
                {
                    throw new InvalidKeySetException("key " + (i + 1) + ": " + error.Message);
                }
            }
            return set;
        }

        private void Add(JsonObject members)
        {
            if (!Key.IsOfUse(members))
            {
                return;
            }
            var key = Key.Read(members);
            var same = keys.Find(other => other.Id == key.Id && other.Purpose == key.Purpose && other.Algorithm == key.Algorithm);
            if (same == null)
            {
                keys.Add(key);
            }
            else if (same.Thumbprint != key.Thumbprint)
            {
                throw new InvalidKeySetException("kid stands twice");
            }
        }
    }
}
