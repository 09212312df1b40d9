using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.RegularExpressions;

namespace LicenseMetering
{
    /// <summary>A verdict, its signature, and when it came by the local clock, in milliseconds.</summary>
    internal sealed class CacheEntry
    {
        /// <summary>These are about the license and not about the domain that was asked for.</summary>
        private static readonly string[] LicenseWide = { "invalid_signature", "not_found", "canceled", "suspended", "expired" };

        public CacheEntry(Verdict verdict, string signature, long received)
        {
            Verdict = verdict;
            Signature = signature;
            Received = received;
        }

        public Verdict Verdict { get; }

        public string Signature { get; }

        public long Received { get; }

        public bool EndsLicense => !Verdict.Valid && LicenseWide.Contains(Verdict.Code);
    }

    /// <summary>Verdicts in memory and on disk: at most 1,000; the oldest leave first.</summary>
    internal sealed class LicenseCache
    {
        private const int MaximumEntries = 1000, MaximumFileBytes = 1 << 21;
        private const string LatestFile = "latest.json", KeysFile = "keys.json";
        private static readonly Regex EntryPattern = new Regex(@"^[0-9a-f]{32}-[0-9a-f]{32}\.json\z", RegexOptions.CultureInvariant);

        private readonly string folder;
        private readonly Func<KeySet> keys;
        private readonly object memory = new object(), writing = new object();
        private readonly Dictionary<(string, string), LinkedListNode<((string, string) Key, CacheEntry Entry)>> entries =
            new Dictionary<(string, string), LinkedListNode<((string, string) Key, CacheEntry Entry)>>();
        private readonly LinkedList<((string, string) Key, CacheEntry Entry)> order =
            new LinkedList<((string, string) Key, CacheEntry Entry)>();
        private long highestTime;
        private bool isLatestRead;

        public LicenseCache(string folder, Func<KeySet> keys)
        {
            this.folder = string.IsNullOrEmpty(folder) ? null : folder;
            this.keys = keys;
        }

        public string SavedKeys => Read(KeysFile, "keys");

        /// <summary>The latest time that the service has signed; 0 where none is known.</summary>
        public long HighestTime()
        {
            lock (memory)
            {
                if (!isLatestRead)
                {
                    isLatestRead = true;
                    var saved = Read(LatestFile, "signature");
                    var known = keys();
                    if (saved != null && known != null)
                    {
                        highestTime = Math.Max(highestTime, Verdict.SignedTime(saved, known));
                    }
                }
                return highestTime;
            }
        }

        /// <summary>What memory holds.</summary>
        public CacheEntry Get(string licenseKey, DomainName domain)
        {
            lock (memory)
            {
                if (!entries.TryGetValue((licenseKey, domain.Text), out var node))
                {
                    return null;
                }
                order.Remove(node);
                order.AddLast(node);
                return node.Value.Entry;
            }
        }

        /// <summary>The newer of what memory and disk hold; another process may have written it.</summary>
        public CacheEntry Load(string licenseKey, DomainName domain)
        {
            var known = Get(licenseKey, domain);
            var signature = Read(FileName(licenseKey, domain), "signature");
            var set = keys();
            if (signature == null || set == null || signature == known?.Signature)
            {
                return known;
            }
            // What was changed is not known.
            var verdict = Verdict.FromSaved(signature, set, licenseKey, domain);
            if (verdict == null || (known != null && known.Verdict.Timestamp >= verdict.Timestamp))
            {
                return known;
            }
            var loaded = new CacheEntry(verdict, signature, verdict.Timestamp);
            lock (memory)
            {
                Keep((licenseKey, domain.Text), loaded);
            }
            return loaded;
        }

        /// <summary>Keeps a verdict. A "no" replaces what was kept for the domain, and for the whole license where it is about that.</summary>
        public void Put(string licenseKey, DomainName domain, CacheEntry entry)
        {
            var isLatest = entry.Verdict.Timestamp >= HighestTime();
            lock (memory)
            {
                if (entry.EndsLicense)
                {
                    foreach (var key in entries.Keys.Where(key => key.Item1 == licenseKey).ToList())
                    {
                        order.Remove(entries[key]);
                        entries.Remove(key);
                    }
                }
                Keep((licenseKey, domain.Text), entry);
            }
            if (folder != null)
            {
                lock (writing)
                {
                    Quietly(() => Save(licenseKey, domain, entry, isLatest));
                }
            }
        }

        public void SaveKeys(string text)
        {
            if (folder != null)
            {
                Quietly(() => Write(KeysFile, "keys", text));
            }
        }

        private void Keep((string, string) key, CacheEntry entry)
        {
            if (entries.TryGetValue(key, out var old))
            {
                order.Remove(old);
            }
            entries[key] = order.AddLast((key, entry));
            highestTime = Math.Max(highestTime, entry.Verdict.Timestamp);
            if (order.Count > MaximumEntries)
            {
                entries.Remove(order.First.Value.Key);
                order.RemoveFirst();
            }
        }

        /// <summary>A full or forbidden disk takes the cache's survival of a restart away, and nothing else.</summary>
        private static void Quietly(Action action)
        {
            try
            {
                action();
            }
            catch (Exception error) when (error is IOException || error is UnauthorizedAccessException)
            {
            }
        }

        private void Save(string licenseKey, DomainName domain, CacheEntry entry, bool isLatest)
        {
            var name = FileName(licenseKey, domain);
            if (entry.Verdict.Valid)
            {
                Write(name, "signature", entry.Signature);
                Trim(name);
            }
            else
            {
                if (entry.EndsLicense)
                {
                    var prefix = Encoded.ShortHash(licenseKey) + "-";
                    foreach (var other in Files().Where(other => other != name && other.StartsWith(prefix, StringComparison.Ordinal)))
                    {
                        File.Delete(Path.Combine(folder, other));
                    }
                }
                // Names that were never valid leave no file: whoever asks for them must not fill the disk.
                if (File.Exists(Path.Combine(folder, name)))
                {
                    Write(name, "signature", entry.Signature);
                }
            }
            if (isLatest)
            {
                Write(LatestFile, "signature", entry.Signature);
            }
        }

        private List<string> Files()
        {
            if (!Directory.Exists(folder))
            {
                return new List<string>();
            }
            return Directory.GetFiles(folder).Select(Path.GetFileName).Where(name => EntryPattern.IsMatch(name)).ToList();
        }

        private void Trim(string kept)
        {
            var names = Files();
            var surplus = names.Count - MaximumEntries;
            if (surplus <= 0)
            {
                return;
            }
            foreach (var name in names.OrderBy(name => File.GetLastWriteTimeUtc(Path.Combine(folder, name))).Take(surplus))
            {
                if (name != kept)
                {
                    File.Delete(Path.Combine(folder, name));
                }
            }
        }

        /// <summary>Makes a file of the owner's alone, whole or not at all.</summary>
        private void Write(string name, string member, string value)
        {
            if (!Directory.Exists(folder))
            {
                Directory.CreateDirectory(folder);
                Owner.Only(folder, 0x1C0); // rwx------
            }
            string temporary = Path.Combine(folder, "." + name + "." + Encoded.RandomHex()), target = Path.Combine(folder, name);
            try
            {
                using (var file = new FileStream(temporary, FileMode.CreateNew, FileAccess.Write))
                {
                    Owner.Only(temporary, 0x180); // rw-------
                    var bytes = Encoding.UTF8.GetBytes(Json.Object(member, value));
                    file.Write(bytes, 0, bytes.Length);
                }
                if (File.Exists(target))
                {
                    File.Replace(temporary, target, null);
                }
                else
                {
                    File.Move(temporary, target);
                }
            }
            finally
            {
                File.Delete(temporary);
            }
        }

        private string Read(string name, string member)
        {
            string text = null;
            if (folder != null)
            {
                Quietly(() =>
                {
                    var path = Path.Combine(folder, name);
                    if (File.Exists(path) && new FileInfo(path).Length <= MaximumFileBytes)
                    {
                        text = Json.ParseObject(File.ReadAllBytes(path))?.Text(member);
                    }
                });
            }
            return text;
        }

        private static string FileName(string licenseKey, DomainName domain) =>
            Encoded.ShortHash(licenseKey) + "-" + Encoded.ShortHash(domain.Text) + ".json";

        /// <summary>.NET Standard cannot set permissions. On Windows the folder's own hold.</summary>
        private static class Owner
        {
            public static void Only(string path, uint mode)
            {
                if (!RuntimeInformation.IsOSPlatform(OSPlatform.Windows) && ChangeMode(path, mode) != 0)
                {
                    throw new IOException("the permissions cannot be set");
                }
            }

            [DllImport("libc", EntryPoint = "chmod", SetLastError = true)]
            private static extern int ChangeMode([MarshalAs(UnmanagedType.LPUTF8Str)] string path, uint mode);
        }
    }
}
